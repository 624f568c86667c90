"""The base of every value: frozen, closed to fields it does not know, its faults put in words."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Value(BaseModel):
    """An immutable value; unknown fields and values out of range raise pydantic's ValidationError."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """Each field at fault, dotted (empty for the whole), and what is wrong with it; the input never shows."""
    return [
        (".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, "))
        for fault in error.errors()
    ]


def describe_faults(error: ValidationError) -> str:
    """All faults in one line: `variants.0.output.webp.quality: Input should be …; …`."""
    return "; ".join(f"{field}: {fault}" if field else fault for field, fault in faults(error))
