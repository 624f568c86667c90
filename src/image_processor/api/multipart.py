"""A multipart upload, read as it arrives: the file goes to the stage, the fields stay small."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from image_processor.errors import (
    FileTooLargeError,
    InvalidRequestError,
    UploadTimeoutError,
)
from image_processor.intake.stage import MIB, StagedOriginal, StagingFile

if TYPE_CHECKING:  # it exists for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16
MAX_DIGITS = 20
"""Of a declared length: more of them only make a number longer that is too large already."""
MAX_FIELD_BYTES = 64 * 1024
MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
FORM_OVERHEAD_BYTES = 128 * 1024
"""What a body may be longer than its file: the fields, their headers and the boundaries."""


@dataclass
class Upload:
    """What a form held: its small fields, and its one file, staged."""

    original: StagedOriginal
    fields: dict[str, str]


@dataclass
class _Part:
    name: str = ""
    is_file: bool = False
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)


class _Form:
    """The parser's callbacks: routes each part's bytes to where they belong."""

    def __init__(self, file: StagingFile, file_field: str) -> None:
        self._file = file
        self._file_field = file_field
        self._part = _Part()
        self._parts = 0
        self.fields: dict[str, str] = {}
        self.has_file = False
        self.is_complete = False

    def on_part_begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise InvalidRequestError(f"The form has more than {MAX_FIELDS} parts.")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def on_header_end(self) -> None:
        part = self._part
        if part.header_name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(part.header_value))
            part.name = options.get(b"name", b"").decode("utf-8", "replace")
            part.is_file = part.name == self._file_field
        part.header_name.clear()
        part.header_value.clear()

    def on_headers_finished(self) -> None:
        part = self._part
        if part.name in self.fields or (part.is_file and self.has_file):
            raise InvalidRequestError(f"The form has the field {part.name[:80]!r} more than once.")
        self.has_file = self.has_file or part.is_file

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._file.write(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > MAX_FIELD_BYTES:
            raise InvalidRequestError(
                f"The field {self._part.name[:80]!r} is longer than {MAX_FIELD_BYTES} bytes."
            )

    def on_part_end(self) -> None:
        if self._part.is_file or not self._part.name:
            return
        try:
            self.fields[self._part.name] = self._part.value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"The field {self._part.name[:80]!r} is not UTF-8 text.") from error

    def on_end(self) -> None:
        self.is_complete = True

    def check(self) -> None:
        """Raise InvalidRequestError unless the form came whole and had its file."""
        if not self.is_complete:
            raise InvalidRequestError("The form ends before its closing boundary.")
        if not self.has_file:
            raise InvalidRequestError(f"The form has no file in the field {self._file_field!r}.")

    def parser(self, boundary: bytes) -> MultipartParser:
        names = (
            "on_part_begin",
            "on_header_field",
            "on_header_value",
            "on_header_end",
            "on_headers_finished",
            "on_part_data",
            "on_part_end",
            "on_end",
        )
        callbacks = {name: getattr(self, name) for name in names}
        return MultipartParser(boundary, cast("MultipartCallbacks", callbacks))


def check_declared_length(request: Request, max_bytes: int) -> None:
    """Refuse a body whose Content-Length says that it is too long. Raises FileTooLargeError."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > max_bytes + FORM_OVERHEAD_BYTES:
        raise FileTooLargeError(f"The file is larger than {max_bytes / MIB:g} MB.", max_bytes=max_bytes)


async def read_upload(
    request: Request, file: StagingFile, *, file_field: str, max_bytes: int, timeout_seconds: float
) -> Upload:
    """
    Read the form: the part named `file_field` into `file`, all others as text.

    Whatever goes wrong, `file` is discarded and nothing is left behind. Raises what the stage raises, and
    InvalidRequestError for a malformed form, FileTooLargeError for a body over its bound, UploadTimeoutError.
    """
    try:
        form = _Form(file, file_field)
        parser = form.parser(_boundary(request))
        await asyncio.wait_for(_feed(request, parser, max_bytes + FORM_OVERHEAD_BYTES), timeout_seconds)
        form.check()
        return Upload(await asyncio.to_thread(file.finish), form.fields)
    except TimeoutError as error:
        file.discard()
        raise UploadTimeoutError(f"The upload was not complete after {timeout_seconds:g} seconds.") from error
    except BaseException:
        file.discard()
        raise


async def _feed(request: Request, parser: MultipartParser, max_body_bytes: int) -> None:
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_body_bytes:
                raise FileTooLargeError(
                    "The body is longer than any accepted file.", max_bytes=max_body_bytes
                )
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequestError(f"The form is malformed: {str(error).rstrip('.')}.") from error


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if content_type != b"multipart/form-data" or not boundary or len(boundary) > MAX_BOUNDARY_BYTES:
        raise InvalidRequestError("The body is not multipart/form-data with a boundary of 1 to 70 bytes.")
    return boundary
