"""Which addresses may be connected to, and every spelling of the others."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import AddressRefusedError, InvalidRequestError
from image_processor.outbound import Outbound
from image_processor.outbound.addresses import Territory, is_public

_NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.0.1
    168.63.129.16 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.192
    192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::127.0.0.1
    64:ff9b::169.254.169.254 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1:: 2002:a00:1:: 3ffe::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1
    ff0e::1
"""
NOT_PUBLIC = _NOT_PUBLIC.split()
_PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255
    172.32.0.0 191.255.255.255 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
    2001:200::1 2606:4700:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
PUBLIC = _PUBLIC.split()


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_what_is_not_global_unicast_is_refused(text):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_global_unicast_is_not(text):
    assert is_public(ip_address(text))


@given(st.ip_addresses())
def test_whatever_python_knows_as_special_is_not_public_here(address):
    if any(
        address in network
        for network in map(ip_network, ("::ffff:0:0/96", "64:ff9b::/96"))
        if address.version == 6
    ):
        assert is_public(address) == is_public(ip_address(int(address) & 0xFFFF_FFFF))
    elif not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_public(address)


def test_a_private_network_is_open_and_its_neighbours_are_not():
    territory = Territory((ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")))
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5"):
        territory.check([ip_address(text)], is_encrypted=False)
    for text in ("10.2.0.1", "::ffff:10.2.0.1", "fd00:2::1", "127.0.0.1"):
        with pytest.raises(AddressRefusedError, match="not public"):
            territory.check([ip_address(text)], is_encrypted=True)


def test_one_bad_address_spoils_a_name():
    with pytest.raises(AddressRefusedError):
        Territory().check([ip_address("8.8.8.8"), ip_address("10.0.0.1")], is_encrypted=True)


def test_public_addresses_are_gone_to_only_with_encryption():
    Territory().check([ip_address("8.8.8.8")], is_encrypted=True)
    with pytest.raises(AddressRefusedError, match="https"):
        Territory().check([ip_address("8.8.8.8")], is_encrypted=False)


_HOSTS = """
    127.0.0.1 127.0.0.1. 127.1 127.1. 127.0.1 0 0.0.0.0 00 0x0 0x 2130706433 017700000001 0x7f000001 0x7f.1
    0X7F.0x0.0.1 0177.0.0.1 0177.0.0.01 127.0.0.01 127.000.000.001 10.1 10.0.0.1 0xa.0.0.1 012.1 3232235521
    192.168.0.1 192.168.1 169.254.169.254 169.254.43518 0xa9fea9fe 2852039166 0251.0376.0251.0376 100.64.0.1
    172.16.0.1 255.255.255.255 4294967295 224.0.0.1 1.1.1.1.1 999.1.1.1 256.256.256.256 1.2.3.0x
    99999999999999999999 foo.1 foo.0x7f localhost LOCALHOST localhost. foo.localhost
    [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:a9fe:a9fe]
    [0:0:0:0:0:ffff:10.0.0.1]
    [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [2002:7f00:0001::] [fe80::1] [fe80::1%25eth0]
    [fe80::1%eth0] [fd00:ec2::254] [fec0::1] [ff02::1] [2001:db8::1] [2001:0:7f00:1::]
    １２７.０.０.１ 127。0。0。1 ①②⑦.⓪.⓪.① ⓛocalhost
    ｌｏｃａｌｈｏｓｔ 127．0．0．1 ２１３０７０６４３３ ０x７f.1
"""  # noqa: RUF001 - letters that look like others are the point
HOSTS = _HOSTS.split()
assert len(HOSTS) > 70


@pytest.mark.parametrize("host", HOSTS)
def test_no_spelling_of_an_address_that_is_not_public_passes(host):
    with pytest.raises(AddressRefusedError):
        Outbound().check(f"https://{host}/a.jpg")


@pytest.mark.parametrize("host", HOSTS)
def test_it_would_not_pass_at_the_door_either(host):
    looked_up = []
    outbound = Outbound(lookup=looked_up.append)
    with pytest.raises(AddressRefusedError), outbound.get(f"https://{host}/", max_bytes=1, timeout_seconds=5):
        pytest.fail("it was fetched")
    with pytest.raises(AddressRefusedError):
        outbound.post(f"https://{host}/", b"{}", {}, timeout_seconds=5)
    assert looked_up == []


@pytest.mark.parametrize("host", ["[::1", "::1", "[::1]a", "[v1.a]", "[]", "[127.0.0.1]", "[::ffff:0x7f.1]"])
def test_a_malformed_address_is_no_host(host):
    with pytest.raises(InvalidRequestError):
        Outbound().check(f"https://{host}/a.jpg")


def test_addresses_inside_the_private_networks_pass():
    outbound = Outbound(private_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
    assert outbound.check("http://127.0.0.1:8080/a") == "http://127.0.0.1:8080/a"
    assert outbound.check("https://[0::1]/a") == "https://[::1]/a"
    assert outbound.check("http://localhost:9000/a") == "http://localhost:9000/a"
    with pytest.raises(AddressRefusedError, match="must be https"):
        outbound.check("http://8.8.8.8/")
