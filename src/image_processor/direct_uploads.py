"""Uploads that pass by the API: an address is given out, and what was put there is checked and taken in."""

import hashlib
import json
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from pydantic import Field, ValidationError

from image_processor.errors import (
    ConflictError,
    CorruptImageError,
    FileTooLargeError,
    IdempotencyError,
    ImageProcessorError,
    InvalidRequestError,
    NotFoundError,
    RejectedError,
    StorageDamageError,
    UnsupportedFormatError,
)
from image_processor.intake.json_text import parse_metadata
from image_processor.intake.stage import StagedOriginal, StagingFile, translated
from image_processor.jobs.uploads import (
    KEY_PREFIX,
    DirectUpload,
    NewUpload,
    UploadRepository,
    UploadStatus,
)
from image_processor.jobs.values import Priority, Receipt, new_id
from image_processor.pipeline import ImageFormat, Preset
from image_processor.pipeline.value import Value
from image_processor.pipeline.wording import sentences
from image_processor.storage.base import Storage, UploadAddress, UploadAddresses
from image_processor.storage.breaker import is_outage
from image_processor.storage.keys import INCOMING, check_bucket
from image_processor.telemetry import emit

if TYPE_CHECKING:  # handed in, as rooms of one floor do not know each other
    from image_processor.service import ImageService, Submission

FOLDER = f"{INCOMING}/uploads"
"""Where the storage keeps what was uploaded and not accepted yet."""
CHUNK_BYTES = 1024 * 1024
MAX_BODIES = 3
"""Of one upload that a process takes in at the same time: each is a file, and needs no token."""
SWEEP_BATCH = 20
MAX_ERROR_LENGTH = 500
_SHA256 = re.compile("[0-9a-fA-F]{64}")


class UploadRequest(Value):
    """What a client wants to upload by itself, and what is to be made of it."""

    content_type: str = Field(max_length=100, description="The type of the picture.", examples=["image/jpeg"])
    size_bytes: Annotated[int, Field(strict=True, ge=1)] = Field(
        description="How many bytes it has, exactly.", examples=[2_345_678]
    )
    sha256: str | None = Field(
        default=None,
        description="Of its bytes, 64 hexadecimal digits; then other bytes are refused.",
        json_schema_extra={"pattern": _SHA256.pattern},
    )
    file_name: str = Field(
        default="", max_length=1024, description="For you alone; nothing is named after it."
    )
    bucket: str = Field(
        max_length=63, description="The first part of the keys under which the variants are stored."
    )
    preset: str = Field(default="web", max_length=255, description="What to make of it.")
    metadata: dict[str, Any] | str = Field(
        default="", description="An object, or its text, of at most 16 KiB; handed back with the result."
    )
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="Which due job is taken first."
    )
    callback_url: str = Field(
        default="", max_length=2048, description="Gets a signed POST when the job has come to rest."
    )
    reuse: bool = Field(
        default=False, strict=True, description="Whether the result of an earlier, same upload will do."
    )

    @property
    def metadata_text(self) -> str:
        """The metadata as an upload's form has it."""
        if isinstance(self.metadata, str):
            return self.metadata
        return json.dumps(self.metadata, ensure_ascii=False, allow_nan=False)


def read_request(fields: Any) -> UploadRequest:
    """The request from JSON's object; raises InvalidRequestError that says which field may be what."""
    if not isinstance(fields, Mapping):
        raise InvalidRequestError("The body is JSON, but not an object.")
    _check_kinds(fields)
    try:
        return UploadRequest.model_validate(dict(fields))
    except ValidationError as error:
        raise InvalidRequestError(sentences(error, UploadRequest, "upload")) from error


def _check_kinds(fields: Mapping[str, Any]) -> None:
    """Refuse with a better sentence what the model's own would say little of."""
    if not isinstance(fields.get("metadata", ""), Mapping | str):
        raise InvalidRequestError("upload: metadata must be an object, or the text of one.")
    sha256 = fields.get("sha256")
    if not (sha256 is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256))):
        raise InvalidRequestError("upload: sha256 must be 64 hexadecimal digits.")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """The right to upload one file."""

    upload_id: str
    address: UploadAddress
    max_bytes: int
    expires_at: str
    """Of the address: ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why nothing was made of an upload, as the error said it."""

    code: str
    message: str
    details: Mapping[str, Any]

    @classmethod
    def of(cls, error: RejectedError) -> "Refusal":
        """The refusal that this error is."""
        return cls(code=error.code, message=error.message[:MAX_ERROR_LENGTH], details=error.details)

    @classmethod
    def read(cls, text: str) -> "Refusal":
        """From its own text."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self), default=str)

    def error(self) -> RejectedError:
        """The error once more."""
        return _kinds(RejectedError).get(self.code, RejectedError)(self.message, **self.details)


def _kinds(kind: type[RejectedError]) -> dict[str, type[RejectedError]]:
    """That error and those below it, by code."""
    below = (found for derived in kind.__subclasses__() for found in _kinds(derived).items())
    return {kind.code: kind, **dict(below)}


class BodyCounts:
    """How many bodies of each upload are on their way into this process; safe for threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._turn = threading.Lock()

    @contextmanager
    def one_more(self, upload_id: str) -> Iterator[None]:
        """Room for one more while the block lasts. Raises ConflictError where `MAX_BODIES` are under way."""
        with self._turn:
            if self._counts[upload_id] >= MAX_BODIES:
                raise ConflictError(
                    f"The file is being sent {MAX_BODIES} times already; wait until one of them has ended.",
                    status=UploadStatus.OPEN,
                )
            self._counts[upload_id] += 1
        try:
            yield
        finally:
            with self._turn:
                self._counts -= Counter([upload_id])


@dataclass(frozen=True, kw_only=True)
class DirectUploads:
    """The use cases of direct uploads; all ids belong to the user that is given, or do not exist."""

    uploads: UploadRepository
    incoming: Storage
    """Where clients put their bytes; nothing of it is ever served."""
    addresses: UploadAddresses
    service: "ImageService"
    new_submission: "type[Submission]"
    upload_url_seconds: int
    max_open: int
    """So many may a user have that are neither completed nor have expired."""
    bodies: BodyCounts = field(default_factory=BodyCounts)

    def open(self, user_id: str, request: UploadRequest) -> Ticket:
        """
        An address for one upload, if it would be accepted as far as that can be told without its bytes.

        It takes nothing of the user's quota. Raises RateLimitError, InvalidRequestError,
        UnsupportedFormatError, FileTooLargeError, and what the check of the callback's address raises.
        """
        self._check(request)
        self.service.rate_limits.check(user_id, self.service.intake.rate_limit)
        upload = NewUpload(
            upload_id=new_id(),
            user_id=user_id,
            request=request.model_dump_json(),
            content_type=request.content_type,
            size_bytes=request.size_bytes,
            sha256=request.sha256 and request.sha256.lower(),
        )
        address = self.addresses.upload_address(
            quarantine_key(upload.upload_id),
            content_type=upload.content_type,
            max_bytes=upload.size_bytes,
            expires_in_seconds=self.upload_url_seconds,
        )
        expires_at = self.uploads.open(upload, valid_seconds=self.upload_url_seconds, max_open=self.max_open)
        emit("direct_upload.opened", upload_id=upload.upload_id)
        return Ticket(
            upload_id=upload.upload_id, address=address, max_bytes=upload.size_bytes, expires_at=expires_at
        )

    def state(self, user_id: str, upload_id: str) -> DirectUpload:
        """The user's upload. Raises NotFoundError."""
        upload = self.uploads.find(upload_id, user_id)
        if upload is None:
            raise _unknown()
        return upload

    def complete(self, user_id: str, upload_id: str) -> Receipt:
        """
        Take in what was uploaded: the bytes that are checked here are those that are processed.

        As often as it is called, also at the same time, there is one job. It takes one upload of the quota.
        What is refused is removed, and stays refused. Raises NotFoundError; ConflictError where nothing was
        uploaded yet or the upload has expired; what an upload raises; UnavailableError, and then it can be
        called again.
        """
        upload = self.state(user_id, upload_id)
        if upload.status is not UploadStatus.OPEN:
            return self._answer(upload)
        try:
            receipt = self._take_in(upload)
        except ImageProcessorError as error:
            return self._refused(upload, error)
        self._settle(upload, receipt.job_id, receipt.image_id)
        return receipt

    def _answer(self, upload: DirectUpload) -> Receipt:
        """What became of an upload that is not open."""
        if upload.status is UploadStatus.EXPIRED:
            raise ConflictError("The upload was not completed in time; open a new one.", status=upload.status)
        if upload.refusal is not None and upload.status is UploadStatus.REFUSED:
            raise Refusal.read(upload.refusal).error()
        job_id, image_id = str(upload.job_id), str(upload.image_id)
        if not upload.is_settled:
            self._settle(upload, job_id, image_id)
        service = self.service
        return Receipt(
            job_id=job_id,
            image_id=image_id,
            created_at=upload.created_at,
            quota=service.rate_limits.quota(upload.user_id, service.intake.rate_limit),
            joined=True,
            replayed=True,
        )

    def _settle(self, upload: DirectUpload, job_id: str, image_id: str) -> None:
        if self.uploads.complete(upload.upload_id, job_id=job_id, image_id=image_id):
            emit("direct_upload.completed", upload_id=upload.upload_id, job_id=job_id)
        self._remove(upload.upload_id)

    def _refused(self, upload: DirectUpload, error: ImageProcessorError) -> Receipt:
        """The answer after an error; where another call has ended the upload meanwhile, that end."""
        now = self.uploads.find(upload.upload_id, upload.user_id)
        if now is not None and now.status not in (UploadStatus.OPEN, UploadStatus.EXPIRED):
            return self._answer(now)
        if isinstance(error, RejectedError) and not isinstance(error, IdempotencyError):
            self._refuse(upload.upload_id, error)
        raise error

    def _refuse(self, upload_id: str, error: RejectedError) -> None:
        if self.uploads.refuse(upload_id, str(Refusal.of(error))):
            emit("direct_upload.refused", upload_id=upload_id, code=error.code)
            self._remove(upload_id)

    def _remove(self, upload_id: str) -> None:
        try:
            self.incoming.delete(quarantine_key(upload_id))
        except ImageProcessorError as error:  # the sweeper comes later in any case
            emit("direct_upload.removal.failed", upload_id=upload_id, error=str(error))

    def _take_in(self, upload: DirectUpload) -> Receipt:
        service, request = self.service, UploadRequest.model_validate_json(upload.request)
        service.rate_limits.check(upload.user_id, service.intake.rate_limit)
        submission = self.new_submission(
            user_id=upload.user_id,
            bucket=request.bucket,
            metadata=request.metadata_text,
            preset=request.preset,
            priority=Priority[request.priority.upper()],
            callback_url=request.callback_url,
            reuse_completed=request.reuse,
            idempotency_key=KEY_PREFIX + upload.upload_id,
        )
        return service.submit(self._staged(upload), submission)

    def _staged(self, upload: DirectUpload) -> StagedOriginal:
        announced = ImageFormat.from_media_type(upload.content_type)
        file = self.service.stage.open((announced,), self.service.limits)
        try:
            self._copy(upload, file)
            return file.finish()
        except BaseException:
            file.discard()
            raise

    def _copy(self, upload: DirectUpload, file: StagingFile) -> None:
        digest, size = hashlib.sha256(), 0
        with self._uploaded(upload.upload_id) as content:
            while chunk := content.read(CHUNK_BYTES):
                size += len(chunk)
                if size > upload.size_bytes:
                    raise _larger(upload.size_bytes)
                digest.update(chunk)
                file.write(chunk)
        if size < upload.size_bytes:
            raise CorruptImageError(
                f"The file has {size} bytes, and {upload.size_bytes} were announced.", size_bytes=size
            )
        if upload.sha256 not in (None, digest.hexdigest()):
            raise CorruptImageError("The SHA-256 of the file is not the one that was announced.")

    @contextmanager
    def _uploaded(self, upload_id: str) -> Iterator[BinaryIO]:
        try:
            with self.incoming.open(quarantine_key(upload_id)) as content:
                yield content
        except NotFoundError as error:
            raise ConflictError(
                "Nothing has been uploaded yet: send the file to the address first.",
                status=UploadStatus.OPEN,
            ) from error
        except StorageDamageError as error:
            raise ConflictError(
                "The file was replaced while it was read, or did not come whole; complete the upload again.",
                status=UploadStatus.OPEN,
            ) from error

    def _check(self, request: UploadRequest) -> None:
        """Raise what an upload of that kind would meet, whatever its bytes are."""
        intake = self.service.intake
        image_format = _accepted(request.content_type, intake.accepts)
        preset = _preset(request.preset, intake.presets)
        if image_format not in preset.accepts:
            raise UnsupportedFormatError(
                f"This preset does not take {image_format.label} images.",
                accepted=[accepted.media_type for accepted in preset.accepts],
            )
        max_bytes = min(intake.limits.max_bytes, preset.limits.max_bytes)
        if request.size_bytes > max_bytes:
            raise FileTooLargeError(
                f"The file is larger than {max_bytes} bytes, the most that is taken.", max_bytes=max_bytes
            )
        check_bucket(request.bucket)
        parse_metadata(request.metadata_text)
        if request.callback_url:
            intake.check_callback(request.callback_url)

    def begin_body(self, upload_id: str, max_bytes: int) -> "Body":
        """
        Room for the bytes of an upload that come through this service, at most so many.

        Raises NotFoundError, ConflictError for an upload that is not open, or of which enough bodies are on
        their way, StorageFullError, StorageError.
        """
        self._check_open(upload_id)
        stage = self.service.stage
        stage.check_room()
        with ExitStack() as taken:
            taken.enter_context(self.bodies.one_more(upload_id))
            with translated():
                body = Body(stage.directory, max_bytes)
            body.also_ends(taken.pop_all())
            return body

    def keep_body(self, upload_id: str, body: "Body") -> None:
        """Put whole bytes where `complete` finds them; what was there is replaced. Raises as the other."""
        body.check()
        upload = self._check_open(upload_id)
        self.incoming.put(quarantine_key(upload_id), body.path, content_type=upload.content_type)

    def _check_open(self, upload_id: str) -> DirectUpload:
        upload = self.uploads.find_of_anybody(upload_id)
        if upload is None:
            raise _unknown()
        if upload.status is not UploadStatus.OPEN:
            raise ConflictError(f"The upload is {upload.status} already.", status=upload.status)
        return upload

    def sweep(self) -> int:
        """Remove what expired uploads have left; see the function."""
        return sweep(self.uploads, self.incoming)


def sweep(uploads: UploadRepository, incoming: Storage) -> int:
    """
    Remove what is left under the addresses of uploads that have ended; how many were looked at.

    Each comes an hour after its address has expired and once more a day later, for a body that was slow.
    Raises what the storage raises, at once in an outage, else after the others had their turn; the rest comes
    with the next call.
    """
    count = 0
    while upload_ids := uploads.purgeable(SWEEP_BATCH):
        done: list[str] = []
        failures: list[ImageProcessorError] = []
        for upload_id in upload_ids:
            try:
                incoming.delete(quarantine_key(upload_id))
            except ImageProcessorError as error:
                failures.append(error)
                if is_outage(error):
                    break
            else:
                done.append(upload_id)
        uploads.mark_purged(done)
        if failures:
            raise failures[0]
        count += len(done)
    return count


class Body:
    """The bytes of one upload on their way in; gone when it is closed."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.path = directory / secrets.token_hex(16)
        self._max_bytes = max_bytes
        self._size = 0
        self._file: BinaryIO = self.path.open("xb", buffering=0)
        self._ends = ExitStack()

    def also_ends(self, taken: ExitStack) -> None:
        """Give back what was taken for it when it is closed."""
        self._ends = taken

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises FileTooLargeError, StorageFullError, StorageError."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise _larger(self._max_bytes)
        with translated():
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def check(self) -> None:
        """Raise InvalidRequestError where there are none."""
        if self._size == 0:
            raise InvalidRequestError("The file is empty.")

    def close(self) -> None:
        """Remove what was written; may be called twice."""
        with self._ends:
            self._file.close()
            self.path.unlink(missing_ok=True)


def quarantine_key(upload_id: str) -> str:
    """Where an upload lies until it is accepted; nothing that a client said is in it."""
    return f"{FOLDER}/{upload_id}"


def _accepted(content_type: str, accepts: tuple[ImageFormat, ...]) -> ImageFormat:
    for image_format in accepts:
        if image_format.media_type == content_type:
            return image_format
    known = [accepted.media_type for accepted in accepts]
    raise UnsupportedFormatError(
        f"{content_type[:80]!r} is not accepted; accepted are {', '.join(known)}.", accepted=known
    )


def _preset(name: str, presets: Mapping[str, Preset]) -> Preset:
    preset = presets.get(name)
    if preset is None:
        known = sorted(presets)
        raise InvalidRequestError(
            f"There is no preset {name[:80]!r}; there are {', '.join(known)}.", known=known
        )
    return preset


def _larger(max_bytes: int) -> FileTooLargeError:
    return FileTooLargeError(
        f"The file is larger than the {max_bytes} bytes that were announced.", max_bytes=max_bytes
    )


def _unknown() -> NotFoundError:
    return NotFoundError("There is no such upload.")
