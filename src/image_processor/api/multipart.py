"""A multipart upload, read as it arrives: its files go to the stage, the fields stay small."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from image_processor.errors import (
    FileTooLargeError,
    InvalidRequestError,
    RejectedError,
    UploadTimeoutError,
)
from image_processor.intake.stage import MIB, StagedOriginal, StagingFile

if TYPE_CHECKING:  # it exists for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16
MAX_DIGITS = 20
"""Of a declared length: more of them only make a number longer that is too large already."""
MAX_FIELD_BYTES = 64 * 1024
MAX_FILE_NAME = 255
MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
FORM_OVERHEAD_BYTES = 128 * 1024
"""What a body may be longer than its files: the fields, their headers and the boundaries."""


@dataclass
class Upload:
    """What a form held: its small fields, and its one file, staged."""

    original: StagedOriginal
    fields: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a form with several files may be."""

    file_field: str
    """The name of the files' parts."""
    max_files: int
    max_bytes: int
    """Of all files together."""
    timeout_seconds: float
    """Until the form has to be there."""


@dataclass
class FilePart:
    """One file of several: staged, or refused for its own sake."""

    name: str | None
    """As the client calls it; None where it does not."""
    original: StagedOriginal | None = None
    refusal: RejectedError | None = None


@dataclass
class Uploads:
    """What a form with several files held: its small fields, and its files in their order."""

    files: list[FilePart]
    fields: dict[str, str]


@dataclass
class _Part:
    name: str = ""
    file_name: str | None = None
    is_file: bool = False
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)


class _Files(Protocol):
    """Where the bytes of a form's files go."""

    field: str
    """The name of their parts."""
    count: int
    """How many have begun."""
    max_files: int

    def begin(self, name: str | None) -> None:
        """The next file begins."""

    def write(self, data: bytes) -> None:
        """Take the next bytes of the file that began last."""

    def end(self) -> None:
        """It has all its bytes."""

    async def settle(self) -> None:
        """Do what takes long with the files that have ended."""


@dataclass
class _OneFile:
    """The only file of a form; whatever is wrong with it ends the reading."""

    file: StagingFile
    field: str
    count: int = 0
    max_files: int = 1

    def begin(self, name: str | None) -> None:  # noqa: ARG002 - nothing is named after it
        self.count += 1

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def end(self) -> None:
        pass

    async def settle(self) -> None:
        pass


class _ManyFiles:
    """The files of a form; what is wrong with one is noted beside it, and its bytes are passed over."""

    def __init__(self, open_file: Callable[[], StagingFile], file_field: str, max_files: int) -> None:
        self.field = file_field
        self.count = 0
        self.max_files = max_files
        self.parts: list[FilePart] = []
        self._open_file = open_file
        self._files: list[StagingFile] = []
        self._ended: list[tuple[FilePart, StagingFile]] = []

    def begin(self, name: str | None) -> None:
        self.count += 1
        self._files.append(self._open_file())
        self.parts.append(FilePart(name))

    def write(self, data: bytes) -> None:
        part, file = self.parts[-1], self._files[-1]
        if part.refusal is None:
            try:
                file.write(data)
            except RejectedError as error:
                _refuse(part, file, error)

    def end(self) -> None:
        if self.parts[-1].refusal is None:
            self._ended.append((self.parts[-1], self._files[-1]))

    async def settle(self) -> None:
        while self._ended:
            await asyncio.to_thread(_finish, *self._ended.pop(0))

    def discard(self) -> None:
        for file in self._files:
            file.discard()


def _finish(part: FilePart, file: StagingFile) -> None:
    try:
        part.original = file.finish()
    except RejectedError as error:
        _refuse(part, file, error)


def _refuse(part: FilePart, file: StagingFile, error: RejectedError) -> None:
    part.refusal = error
    file.discard()


class _Form:
    """The parser's callbacks: routes each part's bytes to where they belong."""

    def __init__(self, files: _Files) -> None:
        self.files = files
        self._part = _Part()
        self._parts = 0
        self._max_parts = MAX_FIELDS - 1 + files.max_files
        self.fields: dict[str, str] = {}
        self.is_complete = False

    def on_part_begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > self._max_parts:
            raise InvalidRequestError(f"The form has more than {self._max_parts} parts.")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def on_header_end(self) -> None:
        part = self._part
        if part.header_name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(part.header_value))
            part.name = options.get(b"name", b"").decode("utf-8", "replace")
            part.is_file = part.name == self.files.field
            part.file_name = _file_name(options.get(b"filename"))
        part.header_name.clear()
        part.header_value.clear()

    def on_headers_finished(self) -> None:
        part, files = self._part, self.files
        if part.name in self.fields or (part.is_file and files.count == files.max_files):
            times = "once" if files.max_files == 1 or not part.is_file else f"{files.max_files} times"
            raise InvalidRequestError(f"The form has the field {part.name[:80]!r} more than {times}.")
        if part.is_file:
            files.begin(part.file_name)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self.files.write(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > MAX_FIELD_BYTES:
            raise InvalidRequestError(
                f"The field {self._part.name[:80]!r} is longer than {MAX_FIELD_BYTES} bytes."
            )

    def on_part_end(self) -> None:
        if self._part.is_file:
            self.files.end()
        elif self._part.name:
            self._keep_field()

    def _keep_field(self) -> None:
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
        if not self.files.count:
            raise InvalidRequestError(f"The form has no file in the field {self.files.field!r}.")

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


def _file_name(given: bytes | None) -> str | None:
    return None if given is None else given.decode("utf-8", "replace")[:MAX_FILE_NAME]


def check_declared_length(request: Request, max_bytes: int, *, what: str = "file") -> None:
    """Refuse a body whose Content-Length says that it is too long. Raises FileTooLargeError."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > max_bytes + FORM_OVERHEAD_BYTES:
        raise FileTooLargeError(f"The {what} is larger than {max_bytes / MIB:g} MB.", max_bytes=max_bytes)


async def read_upload(
    request: Request, file: StagingFile, *, file_field: str, max_bytes: int, timeout_seconds: float
) -> Upload:
    """
    Read the form: the part named `file_field` into `file`, all others as text.

    Whatever goes wrong, `file` is discarded and nothing is left behind. Raises what the stage raises, and
    InvalidRequestError for a malformed form, FileTooLargeError for a body over its bound, UploadTimeoutError.
    """
    form = _Form(_OneFile(file, file_field))
    try:
        await _read(request, form, max_bytes, timeout_seconds)
        return Upload(await asyncio.to_thread(file.finish), form.fields)
    except BaseException:
        file.discard()
        raise


async def read_uploads(request: Request, open_file: Callable[[], StagingFile], bounds: Bounds) -> Uploads:
    """
    Read the form: each part of the files' name into a file of its own, all others as text.

    A file that is refused spoils no other. Where the form is refused, nothing of it is left behind. Raises
    what `read_upload` does, but for what one file is refused for.
    """
    files = _ManyFiles(open_file, bounds.file_field, bounds.max_files)
    form = _Form(files)
    try:
        await _read(request, form, bounds.max_bytes, bounds.timeout_seconds)
    except BaseException:
        files.discard()
        raise
    return Uploads(files.parts, form.fields)


async def _read(request: Request, form: _Form, max_bytes: int, timeout_seconds: float) -> None:
    parser = form.parser(_boundary(request))
    try:
        async with asyncio.timeout(timeout_seconds):
            await _feed(request, form, parser, max_bytes + FORM_OVERHEAD_BYTES)
    except TimeoutError as error:
        raise UploadTimeoutError(f"The upload was not complete after {timeout_seconds:g} seconds.") from error
    form.check()


async def _feed(request: Request, form: _Form, parser: MultipartParser, max_body_bytes: int) -> None:
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_body_bytes:
                raise FileTooLargeError(
                    "The body is longer than any accepted file.", max_bytes=max_body_bytes
                )
            parser.write(chunk)
            await form.files.settle()
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequestError(f"The form is malformed: {str(error).rstrip('.')}.") from error


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if content_type != b"multipart/form-data" or not boundary or len(boundary) > MAX_BOUNDARY_BYTES:
        raise InvalidRequestError("The body is not multipart/form-data with a boundary of 1 to 70 bytes.")
    return boundary
