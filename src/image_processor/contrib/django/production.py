"""Production: files and details of one picture, from its bytes to what the row holds. `queues` says where."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from django.core.files.storage import Storage

from image_processor.contrib.django.attempts import attempts
from image_processor.contrib.django.details import ImageDetails, State, StoredVariant
from image_processor.contrib.django.files import store_all
from image_processor.contrib.django.rendering import (
    Picture,
    check_upload,
    local_renderer,
)
from image_processor.engine.base import Facts
from image_processor.intake.sniff import SNIFF_BYTES
from image_processor.intake.stage import accepted_format
from image_processor.pipeline import Preset
from image_processor.result import Result

ORIGINAL = "original"
SOURCE = "source"


@dataclass(frozen=True)
class Place:
    """Where a picture's files go: a storage, and the start of their names."""

    storage: Storage
    stem: str
    """`profile_pictures/7/` and 32 hexadecimal digits; nothing else has it."""

    def name(self, variant: str, extension: str) -> str:
        """Of one file."""
        return f"{self.stem}_{variant}.{extension}"


@dataclass(frozen=True)
class Prepared:
    """An upload that is known to be a picture, with its variants where they are made in the request."""

    source: bytes = field(repr=False)
    preset: Preset
    picture: Picture | None
    facts: Facts | None


@dataclass(frozen=True)
class Stored:
    """What a row is to hold."""

    name: str
    details: ImageDetails


def new_stem(folder: str) -> str:
    """One that no other picture has: pictures are never overwritten."""
    return f"{folder.rstrip('/')}/{uuid.uuid4().hex}".lstrip("/")


def prepare(source: bytes, preset: Preset, *, renders: bool) -> Prepared:
    """
    Decode an upload; with its variants, or only what can be shown until they are made.

    Raises RejectedError for the picture's own fault, and ImageProcessorError for ours, after all tries.
    """
    if renders:
        picture = attempts().run(partial(local_renderer().render, source, preset))
        return Prepared(source, preset, picture, None)
    check_upload(source, preset)
    return Prepared(source, preset, None, attempts().run(partial(local_renderer().inspect, source)))


def store_prepared(prepared: Prepared, place: Place, *, keeps_source: bool) -> Stored:
    """All variants, or the upload for those who make them; raises StorageError after all tries."""
    source = source_beside(prepared.source, prepared.preset, place)
    if prepared.picture:
        return store_picture(prepared.picture, place, source if keeps_source else {})
    names = _store(source, place.storage)
    return Stored(names[SOURCE], _awaiting(prepared.facts, names[SOURCE]))


def source_beside(source: bytes, preset: Preset, place: Place) -> dict[str, tuple[str, bytes]]:
    """An upload as a file beside the variants, for `store_picture`."""
    return {SOURCE: (place.name(SOURCE, _extension(source, preset)), source)}


def _awaiting(facts: Facts | None, source: str) -> ImageDetails:
    found = (
        {}
        if facts is None
        else {
            "width": facts.width,
            "height": facts.height,
            "color": facts.dominant_color,
            "thumbhash": facts.thumbhash,
        }
    )
    return ImageDetails(state=State.PENDING, source=source, **found)


def make(source: bytes, preset: Preset, place: Place, *, keeps_source: bool) -> Stored:
    """
    Render all variants and store them.

    Raises:
        RejectedError: the picture's own fault; nothing is stored.
        ImageProcessorError: ours, after all tries; nothing is stored.
    """
    return store_prepared(prepare(source, preset, renders=True), place, keeps_source=keeps_source)


def store_picture(
    picture: Picture, place: Place, beside: Mapping[str, tuple[str, bytes]] | None = None
) -> Stored:
    """Store what was rendered, and the source where it stands in `beside`; raises as `make` does."""
    named = {
        name: (place.name(name, result.extension), result.data) for name, result in picture.variants.items()
    }
    names = _store({**named, **(beside or {})}, place.storage)
    details = describe(picture, names)
    return Stored(own_name(details.variants), details)


def describe(picture: Picture, names: Mapping[str, str]) -> ImageDetails:
    """What a row keeps of a picture; `names` are the storage's, by variant, and by `source` if kept."""
    return ImageDetails(
        width=picture.width,
        height=picture.height,
        color=picture.color,
        thumbhash=picture.thumbhash,
        variants={name: _described(result, names[name]) for name, result in picture.variants.items()},
        source=names.get(SOURCE),
    )


def own_name(variants: Mapping[str, StoredVariant]) -> str:
    """The file that the field itself names: the variant `original`, or else the first."""
    chosen = variants.get(ORIGINAL) or next(iter(variants.values()))
    return chosen.name


def _store(files: Mapping[str, tuple[str, bytes]], storage: Storage) -> dict[str, str]:
    """The names that the storage chose, by the names of the variants."""
    stored = attempts(of="storage").run(partial(store_all, storage, dict(files.values())))
    return {variant: stored[name] for variant, (name, _) in files.items()}


def _described(result: Result, name: str) -> StoredVariant:
    return StoredVariant(
        name=name,
        width=result.width,
        height=result.height,
        bytes=len(result.data),
        media_type=result.media_type,
    )


def _extension(source: bytes, preset: Preset) -> str:
    return accepted_format(source[:SNIFF_BYTES], preset.accepts).extension
