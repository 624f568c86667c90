"""The grammar of file:// and s3:// URIs, and what is refused at submit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import AddressRefusedError, InvalidKeyError, InvalidRequestError, RejectedError
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.storage.memory import MemoryStorage


def no_buckets(name):
    raise InvalidRequestError("S3 is not configured here.")


def locations(*roots, buckets=None):
    storage = MemoryStorage()
    return Locations(
        file_roots=tuple(map(Path, roots)),
        outbound=Outbound(),
        buckets=buckets or (lambda _: storage),
        fetch_timeout_seconds=10,
    )


HERE = locations("/data/in", "/data/out")

CANONICAL = {
    "file:///data/in/a.jpg": "file:///data/in/a.jpg",
    "FILE://LOCALHOST/data/out/b/c.png": "file:///data/out/b/c.png",
    "file:///data/in/a%20b.jpg": "file:///data/in/a%20b.jpg",
    "file:///data/in/ä b.jpg": "file:///data/in/%C3%A4%20b.jpg",
    "file:///data/in/%61%25%2e%3F%23.jpg": "file:///data/in/a%25.%3F%23.jpg",
    "file:///data/in/%252e%252e/a": "file:///data/in/%252e%252e/a",
    "file:///data/in/...": "file:///data/in/...",
    "s3://photos/2026/a.jpg": "s3://photos/2026/a.jpg",
    "S3://my.bucket/a": "s3://my.bucket/a",
}


@pytest.mark.parametrize(("uri", "canonical"), CANONICAL.items(), ids=CANONICAL)
def test_a_uri_has_one_canonical_form(uri, canonical):
    for check in (HERE.check_source, HERE.check_destination):
        assert check(uri) == canonical
        assert check(canonical) == canonical


def test_the_web_is_read_and_not_written():
    assert HERE.check_source("https://Example.com/a.jpg") == "https://example.com/a.jpg"
    for uri in ("https://example.com/a.jpg", "http://example.com/a.jpg"):
        with pytest.raises(InvalidRequestError, match="can be read from but not written to"):
            HERE.check_destination(uri)
    with pytest.raises(AddressRefusedError):
        HERE.check_source("https://127.0.0.1/a.jpg")


REFUSED = [
    *("", "a.jpg", "/data/in/a.jpg", "ftp://example.com/a", "javascript:alert(1)", "data:,a", "C:\\a.jpg"),
    *(
        "file:",
        "file:/data/in/a.jpg",
        "file://data/in/a.jpg",
        "file:///",
        "file:///data/in",
        "file:///data/in/",
    ),
    *(
        "file:///etc/passwd",
        "file:///data/inside/a",
        "file:///data/in/../../etc/passwd",
        "file:///data/in/./a",
    ),
    *(
        "file:///data/in/%2e%2e/a",
        "file:///data/in/%2E%2E%2Fa",
        "file:///data/in/..%2f..%2fetc",
        "file:///data/in//a",
    ),
    *(
        "file:///data/in/a%00.jpg",
        "file:///data/in/a\x00",
        "file:///data/in/a%0a",
        "file:///data/in/a%",
        "file:////etc",
    ),
    *(
        "file:///data/in/a%zz",
        "file:///data/in/%ff",
        "file:///data/in/\ud800",
        "file:///data/in/a?b",
        "file:///data/in/a#b",
    ),
    *("file://server/data/in/a", "file://user@localhost/data/in/a", "file://localhost:80/data/in/a"),
    *(f"file:///data/in/{'a' * 256}", f"file:///data/in/{'ä' * 128}", f"file:///data/in{'/a' * 1100}"),
    f"file:///data/in{'/a' * 63}",
    *("file:///data%2Fin/a", "file:///%2e%2e/data/in/a", "file:///data/IN/a"),
    *(
        "s3:",
        "s3://",
        "s3://photos",
        "s3:///a",
        "s3://Photos/a",
        "s3://a b/a",
        "s3://..a/b",
        "s3://user@photos/a",
    ),
    *(
        "s3://photos/",
        "s3://photos//a",
        "s3://photos/../a",
        "s3://photos/.a",
        "s3://photos/a?b=c",
        "s3://photos/a%2fb",
    ),
    *("s3://photos/ä", "s3://photos/a\nb", f"s3://photos/{'a' * 300}", "s3://photos/a#b"),
]


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_no_place_is_refused_with_a_sentence(uri):
    for check in (HERE.check_source, HERE.check_destination):
        with pytest.raises((InvalidRequestError, InvalidKeyError), match=r"\.$"):
            check(uri)


def test_files_are_closed_where_no_folders_are_open():
    for check in (locations().check_source, locations().check_destination):
        with pytest.raises(InvalidRequestError, match="FILE_ROOTS"):
            check("file:///data/in/a.jpg")


def test_buckets_are_closed_where_there_are_none():
    closed = locations(buckets=no_buckets)
    for check in (closed.check_source, closed.check_destination):
        with pytest.raises(InvalidRequestError, match="S3 is not configured"):
            check("s3://photos/a.jpg")


@given(
    st.sampled_from(["file:///data/in/", "s3://photos/", "https://a.example/", "file://", "s3://", ""]),
    st.text(),
)
def test_any_text_is_a_place_or_refused_in_our_words(start, text):
    try:
        canonical = HERE.check_source(start + text)
    except RejectedError:
        return
    assert canonical.isascii()
    assert HERE.check_source(canonical) == canonical
