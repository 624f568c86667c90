"""Multipart forms, however they are cut, and whatever they are."""

import asyncio
import hashlib
import io

import pytest
from fastapi import Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import ClientDisconnect

from image_processor.api.multipart import (
    FORM_OVERHEAD_BYTES,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    Bounds,
    check_declared_length,
    read_upload,
    read_uploads,
)
from image_processor.errors import (
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    UnsupportedFormatError,
    UploadTimeoutError,
)
from image_processor.intake.stage import Stage
from image_processor.pipeline import ImageFormat, Limits

MAX_BYTES = 50_000
CONTENT_TYPE = "multipart/form-data; boundary=limit"


def picture():
    file = io.BytesIO()
    Image.effect_noise((60, 60), 50).save(file, "PNG")
    return file.getvalue()


PNG = picture()


def part(name, value, more=""):
    return (
        f'--limit\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
    )


def form(*parts):
    return b"".join(parts) + b"--limit--\r\n"


FILE = part("file", PNG, '; filename="a.jpg"\r\nContent-Type: image/jpeg')


def request_of(chunks, content_type=CONTENT_TYPE, hang=False, leave=False, **headers):
    """A request whose body comes in these chunks; it then hangs, or its client leaves, or it is complete."""
    waiting = iter(chunks)

    async def receive():
        chunk = next(waiting, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if hang:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"} if leave else {"type": "http.request", "body": b""}

    named = {"content-type": content_type, **headers}
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "stage")


@pytest.fixture
def read(stage):
    """What a form of these chunks holds. Where it is refused, nothing may be left in the stage."""

    def read(*chunks, timeout_seconds=30, max_bytes=MAX_BYTES, **options):
        return read_into(stage, chunks, timeout_seconds=timeout_seconds, max_bytes=max_bytes, **options)

    return read


def read_into(stage, chunks, *, timeout_seconds=30, max_bytes=MAX_BYTES, **options):
    file = stage.open((ImageFormat.PNG,), Limits(max_bytes=max_bytes))
    reading = read_upload(
        request_of(chunks, **options),
        file,
        file_field="file",
        max_bytes=max_bytes,
        timeout_seconds=timeout_seconds,
    )
    try:
        return asyncio.run(reading)
    except BaseException:
        assert staged(stage) == []
        raise


def staged(stage):
    return [path.name for path in stage.directory.iterdir()]


def test_a_form_is_its_file_and_its_fields(read, stage):
    upload = read(form(part("bucket", b"pictures"), FILE, part("metadata", '{"a":"ü"}'.encode())))
    assert upload.fields == {"bucket": "pictures", "metadata": '{"a":"ü"}'}
    assert upload.original.sha256 == hashlib.sha256(PNG).hexdigest()
    assert stage.path(upload.original.name).read_bytes() == PNG
    assert staged(stage) == [upload.original.name]


def test_the_order_of_the_parts_does_not_matter(read):
    assert read(form(FILE, part("bucket", b"b"))).fields == read(form(part("bucket", b"b"), FILE)).fields


@pytest.mark.parametrize(
    "head",
    [
        'content-disposition: form-data; name="file"',
        "CONTENT-DISPOSITION: form-data; name=file",
        'Content-Disposition: form-data; name="file"; filename="../../etc/passwd"',
        'Content-Disposition: form-data; name="file"; filename="ü\x00.jpg"',
        "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''%e2%82%ac",
        'Content-Type: text/html\r\nContent-Disposition: form-data; name="file"; filename=""',
        'Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name="file"',
    ],
)
def test_a_part_is_known_by_its_name_alone(read, head):
    upload = read(f"--limit\r\n{head}\r\n\r\n".encode() + PNG + b"\r\n--limit--\r\n")
    assert upload.original.size_bytes == len(PNG)


def test_what_stands_before_and_after_the_form_is_passed_over(read):
    assert read(b"\r\n", form(FILE)).original.size_bytes == len(PNG)
    assert read(form(FILE), b"some words behind it").original.size_bytes == len(PNG)


def test_a_file_that_holds_almost_the_boundary_stays_whole(read, stage):
    content = PNG + b"\r\n--limi\r\n--limi\r\n--\r\n-"
    upload = read(form(part("file", content)))
    assert stage.path(upload.original.name).read_bytes() == content


REFUSED = {
    "nothing": b"",
    "no form": b"rubbish" * 100,
    "no end": form(FILE)[:-9],
    "an end alone": b"--limit--\r\n",
    "no file": form(part("bucket", b"b")),
    "an empty file": form(part("file", b"")),
    "a part without a name": form(b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
    "a part without headers": form(b"--limit\r\n\r\nx\r\n"),
    "a header without a colon": form(b"--limit\r\nContent-Disposition\r\n\r\nx\r\n"),
    "a name that is no text": form(b'--limit\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n'),
    "the file twice": form(FILE, FILE),
    "a field twice": form(part("bucket", b"mine"), FILE, part("bucket", b"yours")),
    "an empty field twice": form(part("bucket", b""), FILE, part("bucket", b"yours")),
    "too many parts": form(FILE, *(part(f"f{number}", b"x") for number in range(MAX_FIELDS))),
    "too long a field": form(FILE, part("metadata", b"x" * (MAX_FIELD_BYTES + 1))),
    "a field that is no text": form(FILE, part("bucket", b"\xed\xa0\x80")),
    "too many headers": form(b"--limit\r\n" + b"X: y\r\n" * 50 + b"\r\nx\r\n"),
    "too long a header": form(b"--limit\r\nX: " + b"y" * 10_000 + b"\r\n\r\nx\r\n"),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("step", [10**6, 100, 1])
def test_a_malformed_form_is_refused_and_leaves_nothing(read, body, step):
    if step == 1 and len(body) > 60_000:
        body = body[-60_000:]
    with pytest.raises(InvalidRequestError):
        read(*(body[start : start + step] for start in range(0, len(body), step)))


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=limit",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=" + "b" * 5000,
        "multipart/form-data; boundary*=utf-8''limit",
        "\xff;\x00=;;;",
    ],
)
def test_a_body_that_is_no_form_is_refused(read, content_type):
    with pytest.raises(InvalidRequestError):
        read(form(FILE), content_type=content_type)


@pytest.mark.parametrize(
    "content_type", ['multipart/form-data; boundary="limit"', "Multipart/Form-Data; boundary=limit"]
)
def test_the_type_is_read_as_http_has_it(read, content_type):
    assert read(form(FILE), content_type=content_type).original.size_bytes == len(PNG)


def test_sixteen_parts_are_taken(read):
    fields = [part(f"f{number}", b"x") for number in range(MAX_FIELDS - 1)]
    assert len(read(form(FILE, *fields)).fields) == MAX_FIELDS - 1


def test_a_field_of_the_longest_length_is_taken(read):
    assert (
        len(read(form(FILE, part("metadata", b"x" * MAX_FIELD_BYTES))).fields["metadata"]) == MAX_FIELD_BYTES
    )


def test_a_file_over_the_limit_is_refused(read):
    content = PNG + bytes(MAX_BYTES)
    with pytest.raises(FileTooLargeError, match="larger than"):
        read(form(part("file", content)))


def test_what_follows_the_form_is_not_read_for_ever(stage):
    sent = 0

    def endless():
        nonlocal sent
        yield form(FILE)
        while True:
            sent += 1000
            yield bytes(1000)

    with pytest.raises(FileTooLargeError, match="longer than any accepted file"):
        read_into(stage, endless())
    assert sent <= MAX_BYTES + FORM_OVERHEAD_BYTES


def test_a_wrong_type_is_refused_before_the_body_is_read(stage):
    taken = []

    def chunks():
        yield part("file", b"<svg>" * 200)[:-2]
        for number in range(100):
            taken.append(number)
            yield b"<g/>"

    with pytest.raises(UnsupportedFormatError):
        read_into(stage, chunks())
    assert taken == []


def test_a_body_that_hangs_is_refused_in_time(read):
    with pytest.raises(UploadTimeoutError, match=r"after 0\.05 seconds"):
        read(form(FILE)[:500], hang=True, timeout_seconds=0.05)


def test_a_client_that_leaves_leaves_nothing(read):
    with pytest.raises(ClientDisconnect):
        read(form(FILE)[:500], leave=True)


fields = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n\x00;'), min_size=1, max_size=10).filter(
        lambda name: name != "file"
    ),
    st.text(st.characters(codec="utf-8"), max_size=40),
    max_size=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=fields, data=st.data())
def test_a_form_cut_anywhere_is_the_same_form(stage, fields, data):
    body = form(*(part(name, value.encode()) for name, value in fields.items()), FILE)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    upload = read_into(stage, chunks)
    try:
        assert upload.fields == fields
        assert upload.original.sha256 == hashlib.sha256(PNG).hexdigest()
    finally:
        stage.remove(upload.original.name)


pieces = st.sampled_from(
    [
        b"--limit",
        b"--limit--",
        b"--",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"Content-Disposition: form-data",
        b'; name="file"',
        b"; name*=x''y",
        b'; name="',
        b": ",
        b"\x00",
        PNG,
        PNG[:100],
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=80) | pieces, max_size=40))
@example(chunks=[b"--limit\r\n"])
@example(chunks=[b"--limit\r\n: \r\n\r\n"])
def test_random_bytes_raise_nothing_but_errors_of_ours(stage, chunks):
    try:
        upload = read_into(stage, chunks)
    except ImageProcessorError as error:
        refused = error
    else:
        stage.remove(upload.original.name)
        refused = None
    assert staged(stage) == []
    assert refused is None or refused.status < 500


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content_type=st.text(st.characters(max_codepoint=255), max_size=60)
    | st.text(st.characters(max_codepoint=255)).map("multipart/form-data; boundary={}".format)
)
def test_no_content_type_raises_anything_else(stage, content_type):
    try:
        upload = read_into(stage, [form(FILE)], content_type=content_type)
    except ImageProcessorError as error:
        assert error.status < 500  # noqa: PT017 - it need not be raised
    else:
        stage.remove(upload.original.name)


@pytest.mark.parametrize(
    "declared", ["", "0", "50000", str(MAX_BYTES + FORM_OVERHEAD_BYTES), "x", "-1", "1e9", "²", "+5"]
)
def test_a_declared_length_within_the_bound_or_no_number_is_let_pass(declared):
    check_declared_length(request_of([], content_length=declared), MAX_BYTES)


@pytest.mark.parametrize("declared", [str(MAX_BYTES + FORM_OVERHEAD_BYTES + 1), "9" * 18, "9" * 5000])
def test_a_declared_length_over_the_bound_is_refused(declared):
    with pytest.raises(FileTooLargeError) as refused:
        check_declared_length(request_of([], content_length=declared), MAX_BYTES)
    assert refused.value.details == {"max_bytes": MAX_BYTES}


def files_of(*contents):
    return [part("files", content, f'; filename="{number}.png"') for number, content in enumerate(contents)]


def read_many(stage, *chunks, max_files=3, timeout_seconds=30, **options):
    def open_file():
        return stage.open((ImageFormat.PNG,), Limits(max_bytes=MAX_BYTES))

    bounds = Bounds(
        file_field="files",
        max_files=max_files,
        max_bytes=max_files * MAX_BYTES,
        timeout_seconds=timeout_seconds,
    )
    return asyncio.run(read_uploads(request_of(chunks, **options), open_file, bounds))


@pytest.mark.parametrize("step", [10**6, 50])
def test_a_form_of_files_gives_each_or_says_why_not(stage, step):
    body = form(*files_of(PNG, b"words" * 100, PNG + bytes(MAX_BYTES)), part("bucket", b"tests"))
    uploads = read_many(stage, *(body[start : start + step] for start in range(0, len(body), step)))
    assert uploads.fields == {"bucket": "tests"}
    assert [file.name for file in uploads.files] == ["0.png", "1.png", "2.png"]
    assert [type(file.refusal) for file in uploads.files] == [
        type(None),
        UnsupportedFormatError,
        FileTooLargeError,
    ]
    assert staged(stage) == [uploads.files[0].original.name]


@pytest.mark.parametrize(
    ("chunks", "options", "error"),
    [
        ([form(*files_of(PNG, PNG, PNG, PNG))], {}, InvalidRequestError),
        ([form(*files_of(PNG, PNG))[:-9]], {}, InvalidRequestError),
        ([form(part("bucket", b"tests"))], {}, InvalidRequestError),
        ([form(*files_of(PNG, PNG))[:-500]], {"leave": True}, ClientDisconnect),
        ([form(*files_of(PNG))[:-9]], {"hang": True, "timeout_seconds": 0.05}, UploadTimeoutError),
        ([*files_of(PNG), bytes(2 * MAX_BYTES)], {}, InvalidRequestError),
        ([form(*files_of(PNG)), *[bytes(MAX_BYTES)] * 6], {}, FileTooLargeError),
    ],
    ids=["too many", "no end", "none", "a client that leaves", "silence", "rubbish behind", "too long"],
)
def test_a_form_of_files_that_is_refused_leaves_none_of_them(stage, chunks, options, error):
    with pytest.raises(error):
        read_many(stage, *chunks, **options)
    assert staged(stage) == []


def test_the_name_of_a_file_is_text_of_a_bounded_length(stage):
    head = b'--limit\r\nContent-Disposition: form-data; name="files"; filename="'
    named = [b"\xff\x00.png", b"x" * 1000]
    body = b"".join(head + name + b'"\r\n\r\n' + PNG + b"\r\n" for name in named)
    first, second = read_many(stage, form(body)).files
    assert first.name == "\ufffd\x00.png"
    assert second.name == "x" * 255
