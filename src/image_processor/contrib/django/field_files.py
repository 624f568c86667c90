"""ImageFieldFile: what a row's picture is to those who read it; everything is known from the row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.core.files.base import File
from django.core.files.storage import Storage
from django.db.models.fields.files import FieldFile

from image_processor.contrib.django.details import ImageDetails, State, StoredVariant
from image_processor.contrib.django.placeholder import placeholder_url

if TYPE_CHECKING:
    from image_processor.contrib.django.fields import ImageField


@dataclass(frozen=True)
class StoredImage:
    """One variant as a template uses it; nothing here asks the storage for anything but an address."""

    storage: Storage
    variant: StoredVariant

    @property
    def name(self) -> str:
        """As the storage knows it."""
        return self.variant.name

    @property
    def url(self) -> str:
        """Where it is served."""
        return self.storage.url(self.variant.name)

    @property
    def width(self) -> int:
        """In pixels."""
        return self.variant.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.variant.height

    @property
    def media_type(self) -> str:
        """Such as `image/webp`."""
        return self.variant.media_type


class Variants(Mapping[str, StoredImage]):
    """The variants of a picture by their names, in the order of the preset; empty while they are made."""

    def __init__(self, storage: Storage, stored: Mapping[str, StoredVariant]) -> None:
        self._storage = storage
        self._stored = stored

    def __getitem__(self, name: str) -> StoredImage:
        return StoredImage(self._storage, self._stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


class ImageFieldFile(FieldFile):
    """What `row.picture` is: a file of Django's, with what the row knows of it."""

    field: "ImageField"

    @property
    def details(self) -> ImageDetails | None:
        """None where the row tells nothing of this very file: one that another field wrote, say."""
        details = getattr(self.instance, self.field.details_name, None)
        if isinstance(details, ImageDetails) and self.name in details.names:
            return details
        return None

    @property
    def variants(self) -> Variants:
        """By their names; empty while they are made."""
        details = self.details
        return Variants(self.storage, details.variants if details else {})

    @property
    def state(self) -> State | None:
        """None where there is no picture, or none of ours."""
        return self.details.state if self.details else None

    @property
    def width(self) -> int | None:
        """Of the upright picture, in pixels; None where the row does not tell."""
        return self.details.width if self.details else None

    @property
    def height(self) -> int | None:
        """In pixels."""
        return self.details.height if self.details else None

    @property
    def color(self) -> str | None:
        """The dominant colour: `#RRGGBB`."""
        return self.details.color if self.details else None

    @property
    def thumbhash(self) -> str | None:
        """In base64."""
        return self.details.thumbhash if self.details else None

    @property
    def placeholder(self) -> str | None:
        """The ThumbHash as a PNG in a `data:` URL."""
        return placeholder_url(self.thumbhash) if self.thumbhash else None

    def save(self, name: str | None, content: "File[bytes]", save: bool = True) -> None:
        """
        Check the picture and make its variants, or store it for who makes them; all under new names.

        Raises:
            django's ValidationError: the picture's own fault, with a sentence under the field's name.
            ImageProcessorError: ours, after all tries.
        """
        del name  # what a stranger calls a file is no part of where it lies
        try:
            stored = self.field.produce(self.instance, content)
        except ValidationError as error:
            raise ValidationError({self.field.name: error.error_list}) from error
        self.field.change(self.instance, stored)
        self.name = stored.name
        self._committed = True
        if save:
            self.instance.save()

    def delete(self, save: bool = True) -> None:
        """Take the picture off its row; its files go once the row is saved and committed."""
        if not self:
            return
        self.close()
        self.field.change(self.instance, None)
        self.name = None
        if save:
            self.instance.save()
