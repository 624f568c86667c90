"""The way out to strangers' servers: real sockets, real TLS, and servers that mean no good."""

import gzip
import threading
import time
from contextlib import contextmanager
from ipaddress import ip_network

import pytest

from image_processor.errors import (
    AddressRefusedError,
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    Retry,
    SourceNotFoundError,
    SourceUnavailableError,
)
from image_processor.outbound import Outbound
from web_server import answer, redirect, self_signed, serving

HERE = (ip_network("127.0.0.0/8"),)
NAME = "pictures.example"
AGES = 60
"""Seconds that no test waits: where a bound on time is the promise, the test states it."""


class Names:
    """A resolver whose answers are given, one look-up after the other; the last one stays."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def outbound_to_here(**options):
    return Outbound(private_networks=HERE, lookup=Names(["127.0.0.1"]), **options)


def fetched(outbound, url, *, max_bytes=1_000_000, seconds=AGES):
    with outbound.get(url, max_bytes=max_bytes, timeout_seconds=seconds) as chunks:
        return b"".join(chunks)


def url_of(server, path, *, host=NAME, scheme="http"):
    return f"{scheme}://{host}:{server.port}{path}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("certificate"), NAME)


def headers_of(request):
    lines = request.split("\r\n")[1:-2]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def test_content_comes_as_it_is_and_the_request_tells_nothing_of_us(monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with serving({"/a?b=c": answer(b"picture", "Set-Cookie: a=b")}) as server:
        outbound = outbound_to_here()
        for _ in range(2):
            assert fetched(outbound, url_of(server, "/a?b=c")) == b"picture"
    sent = headers_of(server.requests[1])
    assert sent.pop("user-agent").startswith("image-processor")
    assert sent == {
        "host": f"{NAME}:{server.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_https_checks_the_certificate_for_the_name(certificate):
    server_context, client_context = certificate
    outbound = outbound_to_here(ssl_context=client_context)
    with serving({"/": answer(b"picture")}, tls=server_context) as server:
        assert fetched(outbound, url_of(server, "/", scheme="https")) == b"picture"
        assert outbound.post(url_of(server, "/", scheme="https"), b"{}", {}, timeout_seconds=AGES) == 200
        with pytest.raises(SourceUnavailableError, match="no valid certificate"):
            fetched(outbound, url_of(server, "/", scheme="https", host="other.example"))
        with pytest.raises(SourceUnavailableError, match="no valid certificate"):
            fetched(outbound_to_here(), url_of(server, "/", scheme="https"))


def test_a_server_without_tls_is_not_talked_to_over_https():
    with serving({"/": answer(b"plain")}) as server:
        server._read_head = lambda connection: connection.recv(10) and "GET / HTTP/1.1"
        with pytest.raises(SourceUnavailableError, match="TLS"):
            fetched(outbound_to_here(), url_of(server, "/", scheme="https"))


def test_private_addresses_are_not_even_connected_to():
    with serving({"/": answer(b"secret")}) as server:
        for names in (
            ["127.0.0.1"],
            ["8.8.8.8", "127.0.0.1"],
            ["127.0.0.1", "8.8.8.8"],
            ["::ffff:127.0.0.1"],
        ):
            outbound = Outbound(lookup=Names(names))
            with pytest.raises(AddressRefusedError) as refused:
                fetched(outbound, url_of(server, "/", scheme="https"))
            assert refused.value.retry is Retry.NEVER
            assert "127.0.0.1" not in str(refused.value)
            with pytest.raises(AddressRefusedError):
                outbound.post(url_of(server, "/", scheme="https"), b"", {}, timeout_seconds=AGES)
        assert server.connections == 0


def test_a_name_is_resolved_once_and_the_connection_goes_there():
    """What DNS rebinding needs is a second look-up between the check and the connection."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    outbound = Outbound(private_networks=(ip_network("127.0.0.1/32"),), lookup=names)
    with serving({"/": answer(b"picture")}) as server:
        assert fetched(outbound, url_of(server, "/")) == b"picture"
        assert names.asked == [NAME]
        with pytest.raises(AddressRefusedError):
            fetched(outbound, url_of(server, "/"))
        assert server.connections == 1


def test_a_redirect_is_resolved_and_checked_anew():
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    outbound = Outbound(private_networks=(ip_network("127.0.0.1/32"),), lookup=names)
    with serving({"/": redirect("/again")}) as server:
        with pytest.raises(AddressRefusedError):
            fetched(outbound, url_of(server, "/"))
        assert len(server.requests) == 1
        assert names.asked == [NAME, NAME]


@pytest.mark.parametrize(
    "location",
    [
        *("http://10.0.0.1/", "https://169.254.169.254/latest/meta-data/", "//[::1]/", "http://0x7f.1/"),
        *("http://8.8.8.8/", "file:///etc/passwd", "https://user:password@a.example/", "ftp://a.example/"),
    ],
)
def test_a_redirect_to_where_nobody_may_go_is_refused(location):
    outbound = Outbound(private_networks=(ip_network("127.0.0.1/32"),), lookup=Names(["127.0.0.1"]))
    with serving({"/": redirect(location)}) as server:
        with pytest.raises(AddressRefusedError):
            fetched(outbound, url_of(server, "/"))
        assert server.connections == 1


def test_a_redirect_from_https_to_http_is_refused(certificate):
    server_context, client_context = certificate
    with (
        serving({"/": answer(b"plain")}) as plain,
        serving({"/": redirect(url_of(plain, "/"))}, tls=server_context) as server,
    ):
        with pytest.raises(AddressRefusedError, match="from https:// to http://"):
            fetched(outbound_to_here(ssl_context=client_context), url_of(server, "/", scheme="https"))
        assert plain.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_are_followed(status):
    steps = {f"/{step}": redirect(f"/{step + 1}", f"{status} Elsewhere") for step in range(5)}
    with serving({**steps, "/5": answer(b"picture")}) as server:
        assert fetched(outbound_to_here(), url_of(server, "/0")) == b"picture"


def test_a_loop_of_redirects_ends():
    with serving({"/": redirect("/")}) as server:
        with pytest.raises(SourceUnavailableError, match="more than 5 times"):
            fetched(outbound_to_here(), url_of(server, "/"))
        assert server.connections == 6


STATUSES = {
    **dict.fromkeys((400, 401, 402, 403, 404, 405, 410, 451), SourceNotFoundError),
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 204, 206, 300, 304), SourceUnavailableError),
}


def test_what_is_not_given_is_told_from_what_fails():
    answers = {f"/{status}": answer(b"", status=f"{status} X", length=0) for status in STATUSES}
    with serving(answers) as server:
        for status, error in STATUSES.items():
            with pytest.raises(error, match=str(status)):
                fetched(outbound_to_here(), url_of(server, f"/{status}"))


def test_the_path_of_a_url_is_not_told():
    with serving({"/a?key=s3cret": answer(status="500 X")}) as server:
        with pytest.raises(SourceUnavailableError) as failed:
            fetched(outbound_to_here(), url_of(server, "/a?key=s3cret"))
        assert "s3cret" not in str(failed.value)


def endless(connection, server):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.stopping.is_set():
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def unmeasured(connection, server):
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while not server.stopping.is_set():
        connection.sendall(bytes(0x10000))


TOO_MUCH = {"chunked": endless, "until closed": unmeasured, "as it says": answer(b"", length=10**15)}


@pytest.mark.parametrize("content", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_too_much_ends_at_the_limit(content):
    with serving({"/": content}) as server, pytest.raises(FileTooLargeError):
        fetched(outbound_to_here(), url_of(server, "/"), max_bytes=300_000)


def test_the_limit_holds_to_the_byte():
    with serving({"/": answer(b"x" * 1000)}) as server:
        assert len(fetched(outbound_to_here(), url_of(server, "/"), max_bytes=1000)) == 1000
        with pytest.raises(FileTooLargeError) as refused:
            fetched(outbound_to_here(), url_of(server, "/"), max_bytes=999)
        assert refused.value.details == {"max_bytes": 999}


def interim(connection, server):
    while not server.stopping.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 1000 + b"\r\n\r\n")


def crumbs(connection, server):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.stopping.is_set():
        connection.sendall(b"1;" + b"e" * 5000 + b"\r\nx\r\n")


def huge_header(connection, server):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not server.stopping.is_set():
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("content", [interim, crumbs, huge_header])
def test_headers_and_framing_have_an_end_too(content):
    with serving({"/": content}) as server, pytest.raises(SourceUnavailableError):
        fetched(outbound_to_here(), url_of(server, "/"))


BROKEN = {
    "shorter than it says": answer(b"pict", length=1000),
    "no end of chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npict\r\n",
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
    "a redirect to nowhere": answer(status="302 Found"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_may_be_tried_again(content):
    with serving({"/": content}) as server:
        with pytest.raises(SourceUnavailableError) as failed:
            fetched(outbound_to_here(), url_of(server, "/"))
        assert failed.value.retry is Retry.TRANSIENT
        assert str(failed.value).endswith(".")


def test_nothing_is_inflated():
    bomb = gzip.compress(bytes(10**7))
    with serving({"/told": answer(bomb, "Content-Encoding: gzip"), "/untold": answer(bomb)}) as server:
        with pytest.raises(SourceNotFoundError, match="compressed"):
            fetched(outbound_to_here(), url_of(server, "/told"))
        assert fetched(outbound_to_here(), url_of(server, "/untold")) == bomb


def dripping(first):
    def drip(connection, server):
        connection.sendall(first)
        while not server.stopping.wait(0.02):
            connection.sendall(b"x")

    return drip


def silent(_, server):
    server.stopping.wait()


@contextmanager
def ending_soon():
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"within 0\.3 s"):
        yield
    assert time.monotonic() - started < 10


SLOW = {
    "header": dripping(b"HTTP/1.1 200 OK\r\nX: "),
    "body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    "silence": silent,
}


@pytest.mark.parametrize("content", SLOW.values(), ids=SLOW)
def test_a_drop_now_and_then_does_not_move_the_deadline(content):
    with serving({"/": content}) as server:
        with ending_soon():
            fetched(outbound_to_here(), url_of(server, "/"), seconds=0.3)
        with ending_soon():
            outbound_to_here().post(url_of(server, "/"), b"{}", {}, timeout_seconds=0.3)


def test_silence_in_place_of_a_handshake_ends_at_the_deadline():
    with serving({}) as server, ending_soon():
        fetched(outbound_to_here(), url_of(server, "/", scheme="https"), seconds=0.3)


def test_a_resolver_that_never_answers_ends_at_the_deadline():
    answered = threading.Event()

    def hang(host):
        answered.wait()
        return ["127.0.0.1"]

    try:
        with ending_soon():
            fetched(Outbound(lookup=hang), f"https://{NAME}/", seconds=0.3)
    finally:
        answered.set()


def test_redirects_share_one_deadline():
    def late(connection, server):
        server.stopping.wait(0.12)
        connection.sendall(redirect("/"))

    with serving({"/": late}) as server, ending_soon():
        fetched(outbound_to_here(), url_of(server, "/"), seconds=0.3)


def test_a_receiver_that_reads_nothing_holds_a_post_no_longer():
    with serving({}) as server:
        server.answers["/"] = silent
        server._read_head = lambda _: "POST / HTTP/1.1"
        with ending_soon():
            outbound_to_here().post(url_of(server, "/"), bytes(50_000_000), {}, timeout_seconds=0.3)


def no_such_name(host):
    raise OSError(-2, "Name or service not known")


def test_unknown_names_and_closed_ports_may_be_tried_again():
    with pytest.raises(SourceUnavailableError, match="has no address"):
        fetched(Outbound(lookup=no_such_name), f"https://{NAME}/")
    with pytest.raises(SourceUnavailableError, match="has no address"):
        fetched(Outbound(lookup=Names([])), f"https://{NAME}/")
    with serving({}) as server:
        closed = url_of(server, "/")
    with pytest.raises(SourceUnavailableError, match="cannot be reached"):
        fetched(outbound_to_here(), closed)


def test_the_next_address_is_tried_where_the_first_does_not_answer():
    outbound = Outbound(private_networks=HERE, lookup=Names(["127.0.0.2", "127.0.0.1"]))
    with serving({"/": answer(b"picture")}) as server:
        assert fetched(outbound, url_of(server, "/")) == b"picture"


def test_plain_http_is_for_private_networks_only():
    with pytest.raises(InvalidRequestError, match="https"):
        Outbound().check("http://example.com/")
    outbound = Outbound(private_networks=HERE, lookup=Names(["8.8.8.8"]))
    with pytest.raises(AddressRefusedError, match="must be https"):
        fetched(outbound, "http://example.com/")


def test_a_post_gives_the_status_whatever_it_is_and_follows_nothing():
    answers = {f"/{status}": answer(b"x", status=f"{status} X") for status in (200, 400, 404, 410, 500)}
    with serving({**answers, "/302": redirect("/200"), "/endless": endless}) as server:
        for status in (200, 302, 400, 404, 410, 500):
            sent = outbound_to_here().post(
                url_of(server, f"/{status}"),
                b"{}",
                {"Content-Type": "application/json"},
                timeout_seconds=AGES,
            )
            assert sent == status
        assert outbound_to_here().post(url_of(server, "/endless"), b"{}", {}, timeout_seconds=AGES) == 200
        assert len(server.requests) == 7
    sent = headers_of(server.requests[0])
    assert (sent["content-type"], sent["content-length"]) == ("application/json", "2")


PAUSES = {
    "120": (120, 120),
    "0": (0, 0),
    "9" * 400: (86_400, 86_400),
    "Wed, 21 Oct 2015 07:28:00 GMT": (0, 0),
    "Fri, 31 Dec 9999 23:59:59 GMT": (86_400, 86_400),
    **dict.fromkeys(("", "-1", "1.5", "soon", "²", "Wed, 99 Oct 2015 07:28:00 GMT"), (None, None)),
}


def test_how_long_a_receiver_wants_to_be_left_alone_is_read():
    answers = {
        f"/{number}": answer(b"", f"Retry-After: {text}", status="503 X")
        for number, text in enumerate(PAUSES)
    }
    outbound = outbound_to_here()
    with serving(answers) as server:
        for number, (least, most) in enumerate(PAUSES.values()):
            status = outbound.post(url_of(server, f"/{number}"), b"{}", {}, timeout_seconds=AGES)
            assert status == 503
            pause = status.retry_after_seconds
            assert pause is least or least <= pause <= most


def test_who_stops_reading_leaves_nothing_open():
    with serving({"/": endless}) as server:
        with outbound_to_here().get(url_of(server, "/"), max_bytes=10**9, timeout_seconds=AGES) as chunks:
            next(chunks)
        for thread in server._threads[1:]:
            thread.join(20)
            assert not thread.is_alive()


def test_an_error_of_the_reader_stays_what_it_is():
    with serving({"/": answer(b"picture")}) as server:
        outbound = outbound_to_here()
        with (
            pytest.raises(ZeroDivisionError),
            outbound.get(url_of(server, "/"), max_bytes=100, timeout_seconds=AGES),
        ):
            raise ZeroDivisionError


def test_every_error_is_ours():
    for url in ("", "https://", "https://[", "https://a:b@c/", "x" * 5000):
        with pytest.raises(ImageProcessorError):
            fetched(Outbound(), url)
