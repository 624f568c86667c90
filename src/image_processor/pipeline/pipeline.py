"""A pipeline: the variants to make of one original, and the operations that lead to each."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from image_processor.pipeline.operations import Operation
from image_processor.pipeline.outputs import Output
from image_processor.pipeline.policies import Metadata, Optimize, Profile
from image_processor.pipeline.value import Value

VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class Variant(Value):
    """One file to produce."""

    name: VariantName
    key_name: VariantName | None = None
    """The name that stands for `{size}` in a key template, where it is not `name`."""
    operations: tuple[Operation, ...] = Field(default=(), max_length=20)
    """Applied in order to the upright, sRGB original."""
    output: Output
    never_larger: bool = False
    """Whether the file must not have more bytes than the original."""
    metadata: Metadata = Metadata.NONE
    optimize: Optimize = Optimize.BALANCED


class Pipeline(Value):
    """All variants of one original; they are made from one decode."""

    variants: tuple[Variant, ...] = Field(min_length=1, max_length=50)
    profile: Profile = Profile.SRGB
    linear_light: bool = False
    """Whether sizes are changed in linear light: slower, and right for small bright points on dark."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError("two variants of a pipeline have the same name")
        return self
