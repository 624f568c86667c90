"""The grammar of URLs: what is refused, and what is made of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import AddressRefusedError, InvalidRequestError
from image_processor.outbound import Outbound
from image_processor.outbound.urls import MAX_URL_LENGTH, parse_url

CANONICAL = {
    "https://example.com": "https://example.com/",
    "HTTPS://EXAMPLE.com:443/A?b=c#d": "https://example.com/A?b=c",
    "https://example.com.:8443/a": "https://example.com:8443/a",
    "https://example.com:/a": "https://example.com/a",
    "https://example.com?b": "https://example.com/?b",
    "https://example.com/a%20b/%2e%2E/c": "https://example.com/a%20b/%2e%2E/c",
    "https://example.com/ä": "https://example.com/%C3%A4",
    "https://münchen.example/": "https://xn--mnchen-3ya.example/",
    "https://a_b.example/": "https://a_b.example/",
    "https://8.8.8.8/": "https://8.8.8.8/",
    "https://[2606:4700::0:1111]:8443/": "https://[2606:4700::1111]:8443/",
    'https://x.example/a?u=https://y@z/<>"{}^`': "https://x.example/a?u=https://y@z/%3C%3E%22%7B%7D%5E%60",
}


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items(), ids=CANONICAL)
def test_a_url_has_one_canonical_form(text, canonical):
    assert Outbound().check(text) == canonical
    assert Outbound().check(canonical) == canonical


REFUSED = [
    *("", "example.com", "//example.com/", "/a.jpg", "https:example.com", "https:/example.com", "https://"),
    *(
        "https:///a",
        "https://?a",
        "https://:443/",
        "ftp://example.com/",
        "gopher://a/",
        "javascript:alert(1)",
    ),
    *("file:///etc/passwd", "data:image/png;base64,AA", "http://example.com/", "https+unix://a/"),
    *("https://user@example.com/", "https://user:password@example.com/", "https://@example.com/"),
    *("https://example.com@10.0.0.1/", "https://8.8.8.8:80@127.0.0.1/", "https://a%40b@example.com/"),
    *(
        "https://example.com:0/",
        "https://example.com:22/",
        "https://example.com:25/",
        "https://example.com:-1/",
    ),
    *(
        "https://example.com:65536/",
        "https://example.com:443443/",
        "https://example.com:a/",
        "https://a:1:2/",
    ),
    *(
        "https://exam ple.com/",
        " https://example.com/",
        "https://example.com/\n",
        "https://example.com/\r\nX: y",
    ),
    *(
        "https://example.com/\x00",
        "https://exa\tmple.com/",
        "https://example.com\\@10.0.0.1/",
        "https://a\\b/",
    ),
    *(
        "https://example.com/\x7f",
        "https://example.com/\u2028",
        "https://example.com/\ud800",
        "https://\ud800/",
    ),
    *(
        "https://exa%6dple.com/",
        "https://a..example/",
        "https://.example/",
        "https://-a.example/",
        "https://a,b/",
    ),
    *(
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 130}example/",
        "https://a\u200d.example/",
        "https://*/",
    ),
    *(
        f"https://example.com/{'a' * MAX_URL_LENGTH}",
        "https://example.com/" + "ä" * 1000,
        "https://xn--\u00e4/",
    ),
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(InvalidRequestError):
        Outbound().check(text)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_a_url_or_refused_in_our_words(host, rest):
    for text in (host, f"https://{host}/{rest}", f"https://example.com{host}?{rest}"):
        try:
            canonical = str(parse_url(text))
        except (InvalidRequestError, AddressRefusedError):
            continue
        assert canonical.isascii()
        assert canonical.isprintable()
        assert str(parse_url(canonical)) == canonical


def test_secrets_in_a_url_are_not_in_what_may_be_told():
    assert parse_url("https://example.com/a?signature=s3cret").origin == "https://example.com"


@pytest.mark.parametrize("location", ["javascript:x", "https://[::1", "https://a@b/", "file:///etc/passwd"])
def test_a_redirect_to_nowhere_is_refused(location):
    with pytest.raises(AddressRefusedError):
        parse_url("https://example.com/a").joined(location)
