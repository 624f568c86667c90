"""A chain of operations as callers write it, mixed with what they want written: read into a pipeline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError, model_validator

from image_processor.errors import InvalidOperationError
from image_processor.pipeline.negotiation import OUTPUT_FORMATS, AutoOutput, Traits, output_format
from image_processor.pipeline.operations import Flatten, ImageWatermark, Operation, TextWatermark
from image_processor.pipeline.outputs import FIXED_OUTPUTS, FixedOutput, SourceOutput
from image_processor.pipeline.pipeline import Pipeline, Variant
from image_processor.pipeline.policies import Metadata, Optimize, Profile
from image_processor.pipeline.value import Value
from image_processor.pipeline.wording import sentences, shown

MAX_OPERATIONS = 20
RESULT = "result"
"""The name of a chain's only variant."""
OPAQUE_COLOR_LENGTH = len("#rrggbb")

ChainOutput = FixedOutput | SourceOutput | AutoOutput
OutputLike = ChainOutput | str | Mapping[str, Any]
"""An output, the name of its format, or both in one object: `{"format": "webp", "quality": 80}`."""
Model = TypeVar("Model", bound=BaseModel)


class Convert(Value):
    """Another format; in JSON its settings stand beside its name: `{"op": "convert", "format": "webp"}`."""

    op: Literal["convert"] = "convert"
    output: FixedOutput | SourceOutput | AutoOutput

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "output" in fields:
            return fields
        settings = {name: value for name, value in fields.items() if name != "op"}
        return {"op": fields.get("op", "convert"), "output": read_output(settings, "convert")}


class Strip(Value):
    """No metadata at all, which is the default."""

    op: Literal["strip"] = "strip"


class KeepMetadata(Value):
    """What of the source's metadata is kept."""

    op: Literal["metadata"] = "metadata"
    keep: Metadata


class Policies(Value):
    """What holds for a whole chain."""

    metadata: Metadata = Metadata.NONE
    optimize: Optimize = Optimize.BALANCED
    profile: Profile = Profile.SRGB
    linear_light: bool = False


ReadOperation = Operation | Convert | Strip | KeepMetadata
ChainOperation = ReadOperation | Mapping[str, Any]
"""What a chain is made of: values, or objects as JSON has them."""


@dataclass(frozen=True)
class Chain:
    """Operations in their order, and how what they lead to is written."""

    operations: tuple[Operation, ...]
    output: ChainOutput
    policies: Policies

    def pipeline(self, traits: Traits, *, never_larger: bool = False) -> Pipeline:
        """A pipeline of one variant, `RESULT`, for a source of these traits."""
        variant = Variant(
            name=RESULT,
            operations=self.operations,
            output=self._output(traits),
            never_larger=never_larger,
            metadata=self.policies.metadata,
            optimize=self.policies.optimize,
        )
        return Pipeline(
            variants=(variant,), profile=self.policies.profile, linear_light=self.policies.linear_light
        )

    def _output(self, traits: Traits) -> FixedOutput | SourceOutput:
        if not isinstance(self.output, AutoOutput):
            return self.output
        has_alpha = _has_alpha_after(self.operations, has_alpha=traits.has_alpha)
        return self.output.resolve(Traits(traits.format, has_alpha, traits.is_animated))


def read_chain(
    operations: Iterable[ChainOperation],
    *,
    output: OutputLike | None = None,
    policies: Mapping[str, Any] | Policies | None = None,
) -> Chain:
    """
    The chain of these operations; what it says of output and metadata stands above the other two.

    Without any output it is the source's own format.

    Raises:
        InvalidOperationError: names the operation, the field, what was given and what it may be.
        UnsupportedFormatError: lists the formats that can be written.
    """
    read = [read_operation(operation) for operation in _counted(operations)]
    outputs = [operation.output for operation in read if isinstance(operation, Convert)]
    kept = [_kept(operation) for operation in read if isinstance(operation, (Strip, KeepMetadata))]
    chosen = read_policies(policies or {})
    return Chain(
        tuple(op for op in read if not isinstance(op, (Convert, Strip, KeepMetadata))),
        outputs[-1] if outputs else SourceOutput() if output is None else read_output(output),
        chosen.model_copy(update={"metadata": kept[-1]}) if kept else chosen,
    )


def read_operation(operation: ChainOperation) -> ReadOperation:
    """One operation from its value or from JSON's object; raises what `read_chain` raises."""
    if not isinstance(operation, Mapping):
        if isinstance(operation, _VALUES):
            return operation
        raise InvalidOperationError(
            f"An operation is an object with the field 'op'; one is {shown(operation)}."
        )
    name = operation.get("op")
    if isinstance(name, str) and name in OPERATIONS:
        return cast("ReadOperation", _read(_model(name, operation), operation, name))
    raise InvalidOperationError(_unknown(name), operations=list(OPERATIONS))


def read_output(output: OutputLike, subject: str = "output") -> ChainOutput:
    """An output from its value, its format's name or JSON's object; raises what `read_chain` raises."""
    fields = {"format": output} if isinstance(output, str) else output
    if not isinstance(fields, Mapping) and isinstance(fields, _OUTPUTS):
        return fields
    if not isinstance(fields, Mapping) or not isinstance(fields.get("format"), str):
        raise InvalidOperationError(f"{subject} needs a format: {_format_names()}.")
    name = fields["format"]
    model = _OPEN_OUTPUTS.get(name) or OUTPUT_FORMATS[output_format(name)]
    format_name = model.model_fields["format"].default
    where = subject if subject != "output" else f"output {format_name}"
    return _read(model, {**fields, "format": format_name}, where)


def read_policies(policies: Mapping[str, Any] | Policies) -> Policies:
    """Policies from their value or by name; raises InvalidOperationError."""
    return policies if isinstance(policies, Policies) else _read(Policies, policies, "options")


def _read(model: type[Model], fields: Mapping[str, Any], subject: str) -> Model:
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise InvalidOperationError(sentences(error, model, subject)) from error


def _counted(operations: Iterable[ChainOperation]) -> list[ChainOperation]:
    if isinstance(operations, (str, bytes, Mapping, BaseModel)):
        raise InvalidOperationError("The operations are a list, also where there is only one.")
    counted = list(operations) if isinstance(operations, Sequence) else _first(operations)
    if len(counted) > MAX_OPERATIONS:
        raise InvalidOperationError(f"There are more than {MAX_OPERATIONS} operations.")
    return counted


def _first(operations: Iterable[ChainOperation]) -> list[ChainOperation]:
    """Of what may never end, no more than is needed to see that it is too much."""
    return [operation for operation, _ in zip(operations, range(MAX_OPERATIONS + 1), strict=False)]


def _model(name: str, operation: Mapping[str, Any]) -> type[BaseModel]:
    if name != "watermark":
        return OPERATIONS[name]
    if ("text" in operation) == ("image" in operation):
        raise InvalidOperationError("watermark needs an image or a text, and not both.")
    return TextWatermark if "text" in operation else ImageWatermark


def _unknown(name: Any) -> str:
    close = get_close_matches(name[:40], OPERATIONS, n=1) if isinstance(name, str) else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    is_name = isinstance(name, str)
    said = (
        f"There is no operation {shown(name)}" if is_name else "An operation needs a name in its field 'op'"
    )
    return f"{said}; there are {', '.join(OPERATIONS)}.{hint}"


def _format_names() -> str:
    return ", ".join([*OUTPUT_FORMATS, *_OPEN_OUTPUTS])


def _kept(operation: Strip | KeepMetadata) -> Metadata:
    return operation.keep if isinstance(operation, KeepMetadata) else Metadata.NONE


def _has_alpha_after(operations: Sequence[Operation], *, has_alpha: bool) -> bool:
    for operation in operations:
        background = getattr(operation, "background", None) or ""
        if isinstance(operation, Flatten):
            has_alpha = False
        elif len(background) > OPAQUE_COLOR_LENGTH and not background.lower().endswith("ff"):
            has_alpha = True
    return has_alpha


def _models() -> dict[str, type[BaseModel]]:
    """Every operation by its name; of the two watermarks, one stands for both."""
    simple = (kind for kind in get_args(get_args(Operation)[0]) if hasattr(kind, "model_fields"))
    return {
        model.model_fields["op"].default: model
        for model in (*simple, ImageWatermark, Convert, Strip, KeepMetadata)
    }


OPERATIONS: Mapping[str, type[BaseModel]] = _models()
"""Every name that `op` may have."""
_OPEN_OUTPUTS: Mapping[str, type[SourceOutput] | type[AutoOutput]] = {
    "source": SourceOutput,
    "auto": AutoOutput,
}
_OUTPUTS = (*FIXED_OUTPUTS, SourceOutput, AutoOutput)
_VALUES: tuple[type[BaseModel], ...] = (*OPERATIONS.values(), TextWatermark)
