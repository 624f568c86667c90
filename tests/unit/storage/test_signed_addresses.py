"""Addresses of our own: what holds, and that nothing in them can be changed."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import ConfigurationError, UploadAddressError
from image_processor.storage.signed_addresses import SignedAddresses

SECRET = b"a secret of the tests"
NOW = 1_800_000_000.25
NAME = "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"


def addresses(secret: bytes = SECRET, now: float = NOW) -> SignedAddresses:
    return SignedAddresses(secret, "/uploads", now=lambda: now)


def signed(content_type: str = "image/jpeg", max_bytes: int = 100, **options) -> dict[str, str]:
    """The query of an address that is valid for a minute."""
    address = addresses(**options).upload_address(
        f"INCOMING/uploads/{NAME}", content_type=content_type, max_bytes=max_bytes, expires_in_seconds=60
    )
    assert (address.method, dict(address.headers)) == ("PUT", {"Content-Type": content_type})
    parts = urlsplit(address.url)
    assert parts.path == f"/uploads/{NAME}/content"
    return dict(parse_qsl(parts.query, strict_parsing=True))


def test_an_address_holds_for_what_it_was_given_out_for():
    upload = addresses().verify(NAME, signed())
    assert (upload.name, upload.content_type, upload.max_bytes) == (NAME, "image/jpeg", 100)
    assert 60 <= upload.expires_at - NOW < 61


@pytest.mark.parametrize("seconds", [0, 59])
def test_it_holds_until_it_expires(seconds):
    addresses(now=NOW + seconds).verify(NAME, signed())


@pytest.mark.parametrize("seconds", [61, 10**9])
def test_it_does_not_hold_any_longer(seconds):
    with pytest.raises(UploadAddressError, match="expired") as caught:
        addresses(now=NOW + seconds).verify(NAME, signed())
    assert caught.value.status == 403


CHANGES = {
    "another type": {"content_type": "image/png"},
    "more bytes": {"max_bytes": "1000"},
    "no number of bytes": {"max_bytes": "many"},
    "digits of another script": {"max_bytes": "\u0661\u0660\u0660"},
    "a later end": {"expires_at": str(int(NOW) + 10_000)},
    "an end of too many digits": {"expires_at": "9" * 5000},
    "no signature": {"signature": ""},
    "a signature that is not ASCII": {"signature": "ü\ud800"},
    "half a signature": {"signature": "0" * 32},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_one_is_refused(change):
    with pytest.raises(UploadAddressError, match="not as it was given out"):
        addresses().verify(NAME, signed() | change)


@pytest.mark.parametrize("missing", ["content_type", "max_bytes", "expires_at", "signature"])
def test_one_that_lacks_something_is_refused(missing):
    query = signed()
    del query[missing]
    with pytest.raises(UploadAddressError):
        addresses().verify(NAME, query)


def test_it_is_for_one_object_alone():
    with pytest.raises(UploadAddressError):
        addresses().verify(NAME.replace("5f", "6f"), signed())


def test_another_secret_signs_otherwise():
    with pytest.raises(UploadAddressError):
        addresses(b"another secret").verify(NAME, signed())


def test_without_a_secret_nothing_is_signed():
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        SignedAddresses(b"", "/uploads")


TYPES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@given(TYPES, st.integers(1, 10**12), TYPES, st.integers(1, 10**12))
def test_what_one_upload_may_no_other_may(one_type, one_size, other_type, other_size):
    one, other = signed(one_type, one_size), signed(other_type, other_size)
    is_same = (one_type, one_size) == (other_type, other_size)
    assert (one["signature"] == other["signature"]) is is_same
