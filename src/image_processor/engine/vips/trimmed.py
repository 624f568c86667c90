"""A pipeline whose trims have become crops. Pure: the pixels are looked at elsewhere."""

from collections.abc import Iterator, Mapping, Sequence

from image_processor.pipeline import Crop, Operation, Pipeline, Trim, Variant


def with_crops(pipeline: Pipeline, crops: Mapping[str, Sequence[Crop]]) -> Pipeline:
    """
    The pipeline with every trim replaced by a crop: for each variant's name one per trim, in order.

    Raises ValueError where there are more or fewer crops than trims, or where one is no region.
    """
    unknown = crops.keys() - {variant.name for variant in pipeline.variants}
    if unknown:
        raise ValueError(f"there are crops for variants that do not exist: {sorted(unknown)}")
    variants = tuple(_cropped(variant, crops.get(variant.name, ())) for variant in pipeline.variants)
    return pipeline.model_copy(update={"variants": variants})


def trims_of(operations: Sequence[Operation]) -> int:
    """How many trims are among the operations."""
    return sum(isinstance(operation, Trim) for operation in operations)


def _cropped(variant: Variant, crops: Sequence[Crop]) -> Variant:
    trims = trims_of(variant.operations)
    if trims != len(crops):
        raise ValueError(f"the variant {variant.name!r} has {trims} trims, not {len(crops)}")
    if not all(crop.is_region for crop in crops):
        raise ValueError(f"a trim of the variant {variant.name!r} is no region")
    if not trims:
        return variant
    return variant.model_copy(update={"operations": tuple(_replaced(variant.operations, iter(crops)))})


def _replaced(operations: Sequence[Operation], crops: Iterator[Crop]) -> Iterator[Operation]:
    for operation in operations:
        yield next(crops) if isinstance(operation, Trim) else operation
