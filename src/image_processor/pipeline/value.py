"""The base of every value in this package: frozen, and closed to fields it does not know."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value; unknown fields and values out of range raise pydantic's ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")
