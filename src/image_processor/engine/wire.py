"""What passes between an isolated engine and its child: length-prefixed JSON, and the values in it."""

import struct
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from image_processor.engine.base import Facts, InspectRequest, Rendering, RenderRequest
from image_processor.engine.sandbox import Protections
from image_processor.pipeline.value import Value

MAX_FRAME_BYTES = 1024 * 1024
"""No frame is longer, either way; a child that announces more is not believed."""
MAX_MESSAGE_LENGTH = 500
PROGRESS_PARTS = 50
"""What a render is divided into; as they only grow, no render has more frames of progress."""
MAX_PROGRESS_BYTES = 64
"""No body of progress is longer."""
EXIT_OUT_OF_MEMORY = 86
"""How the child says that its memory limit tripped: it cannot be trusted to say more."""

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


class Ready(Value):
    """The first thing a child says, once, before it has seen any untrusted byte."""

    protections: Protections


class RenderJob(Value):
    """One render, and the processor time in seconds after which the kernel ends the child."""

    kind: Literal["render"] = "render"
    request: RenderRequest
    cpu_seconds: int = Field(ge=1)


class InspectJob(Value):
    """One inspection, and the processor time in seconds after which the kernel ends the child."""

    kind: Literal["inspect"] = "inspect"
    request: InspectRequest
    cpu_seconds: int = Field(ge=1)


Job = Annotated[RenderJob | InspectJob, Field(discriminator="kind")]
jobs: TypeAdapter[RenderJob | InspectJob] = TypeAdapter(Job)


class Rendered(Value):
    """The render went well."""

    kind: Literal["rendered"] = "rendered"
    rendering: Rendering


class Inspected(Value):
    """The inspection went well."""

    kind: Literal["inspected"] = "inspected"
    facts: Facts


class Failed(Value):
    """The job raised an error of the tree in `errors.py`, named by its code."""

    kind: Literal["failed"] = "failed"
    code: str = Field(max_length=100)
    message: str = Field(max_length=MAX_MESSAGE_LENGTH)


class Progress(Value):
    """Said before the answer of a render: so many parts of it are done; each time more than before."""

    kind: Literal["progress"] = "progress"
    parts: int = Field(ge=1, le=PROGRESS_PARTS, strict=True)


Answer = Annotated[Rendered | Inspected | Failed, Field(discriminator="kind")]
answers: TypeAdapter[Rendered | Inspected | Failed] = TypeAdapter(Answer)


def frame(value: Value) -> bytes:
    """The bytes of one value, length first; raises ValueError where they are too many."""
    body = value.model_dump_json().encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def body_length(prefix: bytes) -> int:
    """The length that the first four bytes of a frame announce; raises ValueError where it is too long."""
    (length,) = _LENGTH.unpack(prefix[:LENGTH_BYTES])
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes was announced; {MAX_FRAME_BYTES} is the most")
    return int(length)
