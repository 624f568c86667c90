"""Uploads: what is taken, what is refused, and that what is refused leaves nothing."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_processor.intake.json_text import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from integration.api.front import Front, accepted, assert_refused, picture, upload

SMALL = picture((20, 20), "PNG")


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """One for all: what a test leaves waiting, others may process."""
    front = Front(tmp_path_factory.mktemp("uploads"), {"rate_limit_max_uploads": 0})
    yield front
    front.close()


@pytest.fixture(autouse=True)
def _what_is_refused_leaves_nothing(front):
    yield
    waiting = front.app.statistics.statistics().status_breakdown["pending"]
    assert len(front.staged()) == waiting


@pytest.mark.parametrize(
    ("kind", "more"), [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("JPEG", {"progressive": True})]
)
def test_jpeg_png_and_webp_are_taken(client, kind, more):
    accepted(client, picture((50, 40), kind, **more))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_other_images_are_refused_with_those_that_are_taken(client, kind):
    error = assert_refused(upload(client, picture((50, 40), kind)), 415, "unsupported_format")
    assert error["details"] == {"accepted": ["image/jpeg", "image/png", "image/webp"]}


def test_name_and_type_of_the_client_do_not_matter(client):
    files = {"file": ("../../evil\x00.php", SMALL, "application/x-php")}
    assert client.post("/api/v1/images/upload", files=files, data={"bucket": "tests"}).status_code == 202


METADATA = {
    "nothing": ("", {}),
    "blanks": (" \n", {}),
    "an empty object": ("{}", {}),
    "text of all kinds": (
        json.dumps({"ü": "用户 🦊 \u0000 \u2028 \\ \" ' </script>", "": ""}, ensure_ascii=False),
        {"ü": "用户 🦊 \u0000 \u2028 \\ \" ' </script>", "": ""},
    ),
    "a surrogate pair": (r'{"a": "\ud83e\udd8a"}', {"a": "🦊"}),
    "numbers": ('{"a": 1, "b": -0.5, "c": 1e300, "d": 12345678901234567890123}', None),
    "a number of four thousand digits": ('{"a": ' + "7" * 4000 + "}", None),
    "nesting as deep as allowed": ('{"a":' * MAX_METADATA_DEPTH + "1" + "}" * MAX_METADATA_DEPTH, None),
    "the longest": (json.dumps({"a": "x" * (MAX_METADATA_BYTES - 9)}), None),
    "names that mean something elsewhere": ('{"__proto__": {"a": 1}, "$ref": "#/x", "null": null}', None),
}


@pytest.mark.parametrize(("text", "value"), METADATA.values(), ids=METADATA.keys())
def test_metadata_comes_back_as_it_came(client, front, text, value):
    job = accepted(client, SMALL, metadata=text)
    front.work()
    returned = client.get(f"{job['status_url']}/result").json()["client_metadata"]
    assert returned == (json.loads(text) if value is None else value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), json_values, max_size=5), st.booleans()
)
def test_any_object_comes_back_as_it_came(front, client, value, as_ascii):
    job_id = accepted(client, SMALL, metadata=json.dumps(value, ensure_ascii=as_ascii))["job_id"]
    assert dict(front.app.service.job("me", job_id).metadata) == value


BAD_METADATA = {
    "half a JSON": "{",
    "a list": "[]",
    "a word": '"word"',
    "nothing": "null",
    "a number that is none": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "infinity by another name": '{"a": 1e999}',
    "half a surrogate pair": r'{"a": "\ud800"}',
    "half a surrogate pair as a name": r'{"\udfff": 1}',
    "an endless number": '{"a": ' + "9" * 5000 + "}",
    "too deep": '{"a":' * (MAX_METADATA_DEPTH + 1) + "1" + "}" * (MAX_METADATA_DEPTH + 1),
    "too deep lists": '{"a":' + "[" * 300 + "]" * 300 + "}",
    "far too deep": '{"a":' + "[" * 7000 + "]" * 7000 + "}",
    "too long": json.dumps({"a": "ü" * (MAX_METADATA_BYTES // 2)}, ensure_ascii=False),
    "single quotes": "{'a': 1}",
    "a NUL": '{"a": 1}\x00',
}


@pytest.mark.parametrize("text", BAD_METADATA.values(), ids=BAD_METADATA.keys())
def test_metadata_that_could_not_come_back_is_refused(client, text):
    error = assert_refused(upload(client, SMALL, metadata=text), 422, "invalid_request")
    assert "metadata" in error["message"]


@pytest.mark.parametrize("bucket", ["ab", "my-photos", "a.b_c-9", "0" * 63])
def test_good_buckets_are_taken(client, front, bucket):
    job = accepted(client, SMALL, bucket=bucket)
    front.work()
    assert (
        client.get(f"/api/v1/images/{job['image_id']}")
        .json()["url"]
        .startswith(f"/storage/{bucket}/processed/")
    )


@pytest.mark.parametrize(
    "bucket",
    [
        "a",
        "A",
        "a/b",
        "..",
        "a..b",
        ".a",
        "-a",
        "a" * 64,
        "ü-bucket",
        "a b",
        "a\x00b",
        "a\n",
        "ab\r\nX: y",
    ],
)
def test_bad_buckets_are_refused_with_the_rule(client, bucket):
    error = assert_refused(upload(client, SMALL, bucket=bucket), 422, "invalid_request")
    assert "2 to 63" in error["message"]
    assert error["details"] == {"parameter": "bucket"}


@pytest.mark.parametrize("path", ["/api/v1/images/upload", "/api/v1/images/batch"])
@pytest.mark.parametrize("fields", [[], [("bucket", (None, ""))]])
def test_a_form_without_a_bucket_is_told_so(client, front, path, fields):
    files = [*fields, ("files" if path.endswith("batch") else "file", SMALL)]
    error = assert_refused(client.post(path, files=files or None), 422, "invalid_request")
    assert error["message"] == "The field bucket is missing."
    assert front.staged() == []


def test_a_field_that_comes_twice_is_refused(client):
    fields = [("bucket", (None, "tests")), ("file", SMALL), ("bucket", (None, "others"))]
    error = assert_refused(client.post("/api/v1/images/upload", files=fields), 422, "invalid_request")
    assert "'bucket' more than once" in error["message"]


def test_an_unknown_field_does_not_matter(client):
    accepted(client, SMALL, colour="blue")


@pytest.mark.parametrize("preset", ["nope", "WEB", "web ", "../web", "x" * 5000, "\x00", "ü"])
def test_an_unknown_preset_names_those_there_are(client, preset):
    error = assert_refused(upload(client, SMALL, preset=preset), 422, "invalid_request")
    assert error["details"] == {"known": ["avatar", "thumbnails", "web"]}
    assert len(error["message"]) < 300


def test_an_empty_preset_is_web(client, front):
    job = accepted(client, SMALL, preset="")
    assert front.app.service.job("me", job["job_id"]).preset == "web"


def test_a_preset_has_limits_of_its_own(client):
    error = assert_refused(upload(client, picture((99, 200)), preset="thumbnails"), 422, "image_too_small")
    assert "100 pixels" in error["message"]
    assert_refused(upload(client, picture((50, 50), "WEBP"), preset="avatar"), 415, "unsupported_format")


def test_a_preset_takes_no_more_bytes_than_it_says(client):
    large = picture((40, 40), "PNG") + bytes(5 * 1024 * 1024)
    error = assert_refused(upload(client, large, preset="avatar"), 413, "file_too_large")
    assert error["details"] == {"max_bytes": 5 * 1024 * 1024}
    accepted(client, large)


def test_a_gif_goes_all_the_way_where_it_is_allowed(make_front):
    front = make_front(allowed_mime_types=("image/gif",))
    client = front.client()
    job = accepted(client, picture((300, 200), "GIF"))
    front.work()
    assert client.get(f"{job['status_url']}/result").json()["metadata"]["variants"]["medium"]["width"] == 300
    assert_refused(upload(client, SMALL), 415, "unsupported_format")


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_read(client):
    def unread():
        raise AssertionError("the body was read")
        yield b""

    for declared in (str(11 * 1024 * 1024), "9" * 30):
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": declared}
        answer = client.post("/api/v1/images/upload", content=unread(), headers=headers)
        error = assert_refused(answer, 413, "file_too_large")
        assert error["details"] == {"max_bytes": 10 * 1024 * 1024}
        assert "10 MB" in error["message"]


@pytest.mark.parametrize("declared", ["-1", "x", "1e3", "²", ""])
def test_a_declared_length_that_is_no_number_is_no_failure_of_ours(client, declared):
    headers = [
        (b"Content-Type", b"multipart/form-data; boundary=b"),
        (b"Content-Length", declared.encode("latin-1")),
    ]
    answer = client.post("/api/v1/images/upload", content=iter([b"--b--\r\n"]), headers=headers)
    assert_refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_only_post_uploads(client, method):
    answer = client.request(method, "/api/v1/images/upload")
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["code"] in ("not_found", "method_not_allowed")


def test_no_token_is_refused_before_the_body_is_read(front):
    def unread():
        raise AssertionError("the body was read")
        yield b""

    answer = front.client(user=None).post("/api/v1/images/upload", content=unread())
    assert_refused(answer, 401, "not_authenticated")
