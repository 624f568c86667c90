"""Signed addresses: made without a network, with the right host, and refused where they cannot be right."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from image_processor.errors import InvalidKeyError, InvalidRequestError
from image_processor.storage.s3 import S3Options
from image_processor.storage.s3.presigning import PresignedUploads, Presigning

WEEK_SECONDS = 604_800
KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


def signing(bucket="photos", **options):
    return Presigning(bucket, S3Options(**({"region": "eu-central-1"} | KEYS | options)))


def query(url):
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"region": "us-east-1"}, "https://photos.s3.amazonaws.com/a/b.webp?"),
        # The global host would redirect, and the signature would not hold at the other end.
        ({}, "https://photos.s3.eu-central-1.amazonaws.com/a/b.webp?"),
        ({"addressing_style": "path"}, "https://s3.eu-central-1.amazonaws.com/photos/a/b.webp?"),
        ({"endpoint_url": "http://store:9000"}, "http://store:9000/photos/a/b.webp?"),
        (
            {"endpoint_url": "http://store:9000", "public_endpoint_url": "https://img.example.org"},
            "https://img.example.org/photos/a/b.webp?",
        ),
    ],
)
def test_an_address_has_the_host_that_clients_reach(options, start):
    url = signing(**options).get("a/b.webp")
    assert url.startswith(start)
    form = signing(**options).post("a/b.webp", content_type="image/webp", max_bytes=10)
    assert start.startswith(form.url)


def test_an_address_says_how_long_it_holds_and_what_it_answers_with():
    signed = query(
        signing().get("a.jpg", expires_in_seconds=60, content_type="image/jpeg", download_name='Bär "1".jpg')
    )
    assert signed["X-Amz-Expires"] == "60"
    assert signed["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert signed["response-content-type"] == "image/jpeg"
    assert signed["response-content-disposition"] == (
        "attachment; filename=\"B_r__1_.jpg\"; filename*=UTF-8''B%C3%A4r%20%221%22.jpg"
    )


@pytest.mark.parametrize("seconds", [0, -1, WEEK_SECONDS + 1])
def test_an_expiry_out_of_range_is_refused(seconds):
    for sign in (
        lambda: signing().get("a", expires_in_seconds=seconds),
        lambda: signing().put("a", content_type="image/png", expires_in_seconds=seconds),
        lambda: signing().post("a", content_type="image/png", max_bytes=1, expires_in_seconds=seconds),
    ):
        with pytest.raises(InvalidRequestError, match="7 days"):
            sign()
    assert query(signing().get("a", expires_in_seconds=WEEK_SECONDS))["X-Amz-Expires"] == "604800"


def test_what_a_header_cannot_carry_is_refused():
    with pytest.raises(InvalidRequestError):
        signing().get("a", content_type="image/png\r\nSet-Cookie: a=b")
    with pytest.raises(InvalidRequestError):
        signing().post("a", content_type="bild/ä", max_bytes=1)
    disposition = query(signing().get("a", download_name='a"\r\nX: y'))["response-content-disposition"]
    assert disposition == "attachment; filename=\"a___X__y\"; filename*=UTF-8''a%22%0D%0AX%3A%20y"


def test_uploads_go_to_keys_of_our_grammar_alone():
    for key in ("../a", "a/${filename}", "a b"):
        with pytest.raises(InvalidKeyError):
            signing().put(key, content_type="image/png")
        with pytest.raises(InvalidKeyError):
            signing().post(key, content_type="image/png", max_bytes=1)
    for key in ("a/../b", "", "x" * 1025, "a\nb"):
        with pytest.raises(InvalidRequestError):
            signing().get(key)
    assert "/Mein%20Bild%20%C3%A4.jpg?" in signing().get("Mein Bild ä.jpg")


def test_a_form_binds_key_type_and_size():
    form = PresignedUploads(signing()).upload_address(
        "INCOMING/1", content_type="image/png", max_bytes=1000, expires_in_seconds=60
    )
    policy = json.loads(base64.b64decode(form.fields["policy"]))
    assert form.method == "POST"
    assert {"key": "INCOMING/1"} in policy["conditions"]
    assert {"bucket": "photos"} in policy["conditions"]
    assert {"Content-Type": "image/png"} in policy["conditions"]
    assert ["content-length-range", 1, 1000] in policy["conditions"]
    assert (form.fields["key"], form.fields["Content-Type"]) == ("INCOMING/1", "image/png")
    with pytest.raises(InvalidRequestError):
        signing().post("a", content_type="image/png", max_bytes=0)


def test_a_put_binds_type_and_size_by_signing_their_headers():
    address = PresignedUploads(signing(), "put").upload_address(
        "INCOMING/1", content_type="image/png", max_bytes=1000, expires_in_seconds=60
    )
    assert (address.method, dict(address.headers)) == ("PUT", {"Content-Type": "image/png"})
    assert query(address.url)["X-Amz-SignedHeaders"] == "content-length;content-type;host"
    sized = signing().put("a", content_type="image/png", size_bytes=5)
    assert sized.headers["Content-Length"] == "5"
    assert query(sized.url)["X-Amz-SignedHeaders"] == "content-length;content-type;host"
