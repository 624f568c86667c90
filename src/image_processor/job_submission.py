"""A caller's request becomes the job that is queued. No I/O: places are checked by those who know them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from image_processor.errors import (
    InvalidOperationError,
    InvalidRequestError,
    UnsupportedFormatError,
)
from image_processor.intake.json_text import MAX_METADATA_DEPTH, check_length
from image_processor.jobs.values import DAY_SECONDS, Idempotency, NewJob, Priority
from image_processor.pipeline import ImageFormat, Pipeline
from image_processor.pipeline.chain import MAX_OPERATIONS, Convert, ReadOperation, read_chain, read_operation
from image_processor.pipeline.negotiation import AutoOutput, Traits, output_format
from image_processor.pipeline.value import Value, faults
from image_processor.pipeline.wording import sentences, shown
from image_processor.storage.keys import check_bucket

KEY_TEMPLATE = "{bucket}/{image_id}/{variant}.{ext}"
"""Where the storage keeps what was asked for without an output."""
DEFAULT_BUCKET = "jobs"
PRESET = "custom"
"""What stands in a job's row in place of a preset's name; the presets of the settings do not come here."""
MIN_TTL_SECONDS = 60
MAX_TTL_SECONDS = int(30 * DAY_SECONDS)
MAX_URI_LENGTH = 2048
MAX_DEPTH = 1 + MAX_METADATA_DEPTH
"""Objects and lists inside one another: the request and in it the metadata. Its reader sees to that."""

MAX_VALUES = 1000
"""In a request, beside its metadata: 20 operations have 300. Each may have to be told of as wrong."""
MAX_FAULTS = 10
MAX_FIELD_LENGTH = 80

Uri = Annotated[str, Field(min_length=1, max_length=MAX_URI_LENGTH)]
Check = Callable[[str], str]
"""Gives a URI in its canonical form, or raises an error that says why it is refused."""


class JobRequest(Value):
    """What a caller asks for."""

    input: Uri = Field(
        description="Where the picture is: `s3://`, `file://` or `https://`.",
        examples=["s3://bucket/input.jpg"],
    )
    operations: tuple[dict[str, Any], ...] = Field(
        default=(),
        max_length=MAX_OPERATIONS,
        description="In their order, each an object with its name in `op`; see the reference of operations.",
        examples=[[{"op": "resize", "width": 800}]],
    )
    output: Uri | None = Field(
        default=None,
        description="Where the result goes: `s3://` or `file://`; without one, into the service's storage.",
        examples=["s3://bucket/output.jpg"],
    )
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="Which due job is taken first."
    )
    ttl_seconds: int | None = Field(
        default=None,
        ge=MIN_TTL_SECONDS,
        le=MAX_TTL_SECONDS,
        strict=True,
        description="A job that has not finished by then fails as expired; by default 24 hours.",
        examples=[3600],
    )
    max_retries: int | None = Field(
        default=None,
        ge=0,
        le=20,
        strict=True,
        description="Attempts after the first; by default, and at most, MAX_RETRIES of the service.",
        examples=[3],
    )
    callback_url: Uri | None = Field(
        default=None,
        description="Told when the job has come to rest.",
        examples=["https://example.com/hooks/images"],
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Any object of at most 16 KiB and 32 levels; handed back as it came.",
        examples=[{"album": "summer"}],
    )
    bucket: str = Field(
        default=DEFAULT_BUCKET,
        max_length=63,
        description="The first part of the key, for a job without an output.",
    )
    reuse: bool = Field(
        default=False,
        description="Whether a job that did the same before and completed will do.",
    )


def read_request(fields: Any) -> JobRequest:
    """The request from JSON's object; raises InvalidRequestError that says which field may be what."""
    if not isinstance(fields, Mapping):
        raise InvalidRequestError("The body is JSON, but not an object.")
    if _count({name: value for name, value in fields.items() if name != "metadata"}) > MAX_VALUES:
        raise InvalidRequestError(f"The request has more than {MAX_VALUES} values beside its metadata.")
    try:
        return JobRequest.model_validate(dict(fields))
    except ValidationError as error:
        raise InvalidRequestError(sentences(error, JobRequest, "job"), faults=_faults(error)) from error


@dataclass(frozen=True, kw_only=True)
class JobSubmission:
    """Turns requests into jobs; what can be refused without the picture's bytes is refused here."""

    check_source: Check
    check_destination: Check
    check_callback: Check
    new_staging_name: Callable[[], str]
    """A random name in the stage that no other file has."""
    ttl_seconds: float
    """Of a request that names none; so for the next."""
    max_retries: int

    def new_job(self, request: JobRequest, *, user_id: str, idempotency: Idempotency | None = None) -> NewJob:
        """
        The job that the request asks for, ready to be made durable.

        Raises InvalidRequestError, InvalidOperationError, UnsupportedFormatError, and what the checks raise.
        """
        place = self._place(request)
        pipeline = _pipeline(request.operations, place.output_uri)
        return NewJob(
            **asdict(place),
            user_id=user_id,
            preset=PRESET,
            pipeline=pipeline,
            key_template=KEY_TEMPLATE,
            staging_path=self.new_staging_name(),
            metadata=_checked_metadata(request.metadata),
            priority=Priority[request.priority.upper()],
            ttl_seconds=self.ttl_seconds if request.ttl_seconds is None else request.ttl_seconds,
            max_retries=min(self.max_retries, request.max_retries or 0)
            if request.max_retries is not None
            else self.max_retries,
            dedupe_key=_digest([asdict(place), pipeline.model_dump(mode="json"), request.metadata]),
            reuse_completed=request.reuse,
            idempotency=idempotency,
        )

    def _place(self, request: JobRequest) -> "_Place":
        place = _Place(
            source_uri=self.check_source(request.input),
            output_uri=None if request.output is None else self.check_destination(request.output),
            bucket=check_bucket(request.bucket),
            callback_url=None if request.callback_url is None else self.check_callback(request.callback_url),
        )
        if place.output_uri == place.source_uri:
            raise InvalidRequestError(
                "The output is the input itself: a second attempt would begin with the result of the first.",
                parameter="output",
            )
        return place


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a job leads from and to, each in its one form."""

    source_uri: str
    output_uri: str | None
    bucket: str
    callback_url: str | None


def fingerprint(request: JobRequest) -> str:
    """The same for the same request, in whatever order its fields stand: what an idempotency key is for."""
    return _digest(["jobs", request.model_dump(mode="json")])


def _pipeline(operations: Sequence[Mapping[str, Any]], output_uri: str | None) -> Pipeline:
    """One variant: a convert decides on its format, else the output's extension, else the source's own."""
    read = [_read_operation(number, operation) for number, operation in enumerate(operations)]
    is_converted = any(isinstance(operation, Convert) for operation in read)
    chain = read_chain(read, output=None if is_converted else _format_of(output_uri))
    if isinstance(chain.output, AutoOutput):
        raise InvalidOperationError(
            "convert: format is 'auto', which asks for the picture, and it is not here yet; name a format.",
            operation=_last(operations, "convert"),
            op="convert",
        )
    # No output that is left asks for the traits of the source.
    return chain.pipeline(Traits(ImageFormat.JPEG))


def _read_operation(number: int, operation: Mapping[str, Any]) -> ReadOperation:
    """One operation; its errors tell which one it was, from 0."""
    try:
        return read_operation(operation)
    except (InvalidOperationError, UnsupportedFormatError) as error:
        details = {**error.details, "operation": number, "op": str(operation.get("op"))[:40]}
        if isinstance(error.__cause__, ValidationError):
            details["faults"] = _faults(error.__cause__)
        raise type(error)(error.message, **details) from error


def _format_of(output_uri: str | None) -> ImageFormat | None:
    """What the output's extension says; None where there is no extension."""
    name = "" if output_uri is None else urlsplit(output_uri).path.rpartition("/")[2]
    stem, _, extension = name.rpartition(".")
    if not stem or not extension:
        return None
    try:
        return output_format(extension)
    except UnsupportedFormatError as error:
        raise UnsupportedFormatError(
            f"The output's extension {error.message} A convert operation would decide in its place.",
            **error.details,
            parameter="output",
        ) from error


def _last(operations: Sequence[Mapping[str, Any]], op: str) -> int:
    return max(number for number, operation in enumerate(operations) if operation.get("op") == op)


def _faults(error: ValidationError) -> list[dict[str, str]]:
    """Each field at fault, what was given and what it may be."""
    given = [shown(fault["input"]) for fault in error.errors(include_url=False)]
    return [
        {"field": field[:MAX_FIELD_LENGTH], "given": value, "allowed": allowed}
        for (field, allowed), value in zip(faults(error), given, strict=True)
    ][:MAX_FAULTS]


def _count(value: Any) -> int:
    """How many values stand in this one, at whatever depth; no further than one list or object too many."""
    count, waiting = 0, [value]
    while waiting and count <= MAX_VALUES:
        item = waiting.pop()
        inside = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        count += len(inside)
        waiting.extend(inside)
    return count


def _checked_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError("The metadata cannot be written as JSON.", parameter="metadata") from error
    check_length(text)
    return metadata


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
