"""ImageStorageService: profile pictures in Django's storage, for any model. The field is in `fields`."""

import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import groupby
from posixpath import basename, dirname
from typing import NamedTuple, TypeAlias
from urllib.parse import urljoin, urlsplit

import pydantic
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, default_storage
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from image_processor.contrib.django.attempts import Attempts, attempts
from image_processor.contrib.django.conf import Conf, conf
from image_processor.contrib.django.details import ImageDetails
from image_processor.contrib.django.files import list_files, remove_all, storage_errors, store_all
from image_processor.contrib.django.production import describe, new_stem
from image_processor.contrib.django.rendering import (
    Picture,
    Renderer,
    as_validation_error,
    check_upload,
    local_renderer,
)
from image_processor.contrib.django.saving import once_committed
from image_processor.contrib.django.uploads import Upload, read_upload
from image_processor.errors import (
    EngineError,
    ImageProcessorError,
    InvalidKeyError,
    InvalidOperationError,
    RejectedError,
    StorageError,
)
from image_processor.pipeline import Fit, ImageFormat, JpegOutput, Limits, Pipeline, Preset, Resize, Variant
from image_processor.pipeline.value import describe_faults

FOLDER = "profile_pictures"
RESIZED = (512, 512)
THUMBNAIL = (128, 128)
YOUNG_SECONDS = 3600.0
"""What is younger, and in no row, may belong to an upload that is under way."""
ACCEPTS = (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.HEIC)
MIB = 1024 * 1024
UserId: TypeAlias = int | str | uuid.UUID
InUse: TypeAlias = Callable[[str], Iterable[str | None]]
"""Names or URLs of the pictures that a user's rows name, by the user's id as the folder has it."""

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_GENERATION = re.compile(r"(?P<generation>[0-9a-f]{32})_[A-Za-z0-9][A-Za-z0-9._-]*")
"""The files of one upload share it; what is not named so is none of ours, and left alone."""
_OURS = re.compile(rf"{FOLDER}/{_SLUG.pattern}/{_GENERATION.pattern}")


class PictureNames(NamedTuple):
    """The three files as the storage knows them."""

    original: str
    resized: str
    thumbnail: str


@dataclass(frozen=True, kw_only=True)
class StoredPictures:
    """One upload: where its three files are served, and all that a row may want to know of them."""

    original: str
    """An absolute URL, as the next two: upright, in its own size, without metadata."""
    resized: str
    """512x512, padded."""
    thumbnail: str
    """128x128, padded."""
    names: PictureNames
    details: ImageDetails
    """Sizes, placeholder and names: what an ImageDetailsField keeps."""


@dataclass(frozen=True)
class _Former:
    """What lay in a user's folder before an upload."""

    names: tuple[str, ...]
    used: frozenset[str] | None
    """The generations that a row named; None where nobody can say."""


class ImageStorageService:
    """
    Checks, converts, stores and removes profile pictures.

    Args:
        storage: by default the project's.
        conf: by default the project's `IMAGE_PROCESSOR`.
        renderer: by default pictures are decoded in a limited process of their own.
        sleep: waits so many seconds between two tries.
        in_use: names or URLs that a user's rows name; what it names is never removed by an upload.
        base_url: such as `https://example.org`, where the storage's addresses have no host and there is no
            request; by default the setting `BASE_URL`.
        using: the database whose commit is waited for before anything is removed.
    """

    def __init__(  # noqa: PLR0913 - each is the project's to replace
        self,
        storage: Storage | None = None,
        *,
        conf: Conf | None = None,
        renderer: Renderer | None = None,
        sleep: Callable[[float], None] = time.sleep,
        in_use: InUse | None = None,
        base_url: str | None = None,
        using: str | None = None,
    ) -> None:
        self.storage: Storage = storage or default_storage
        self._given_conf = conf
        self._renderer = renderer
        self._sleep = sleep
        self._in_use = in_use
        self._base_url = base_url
        self._using = using

    def upload(
        self,
        user_id: UserId,
        file: Upload,
        *,
        request: HttpRequest | None = None,
        save: Callable[[StoredPictures], object] | None = None,
    ) -> StoredPictures:
        """
        Store a picture in three sizes; the user's former ones are removed once the transaction is committed.

        Args:
            user_id: a whole number, a UUID or a slug.
            file: as a form brings it, or its bytes. Neither its name nor its content type is believed.
            request: whose host the URLs have, unless the storage's have one.
            save: writes the row, in a transaction of its own that begins after the files are stored and
                before former ones are removed. Without it, call `upload` and save the row in one
                `transaction.atomic()`: outside of one, former files go at once.

        Raises:
            django's ValidationError: the picture's own fault, with a sentence for its owner.
            InvalidKeyError: what is no id of a user.
            ImageProcessorError: ours, after all tries; UnavailableError at once while the breaker is open.
            django's ImproperlyConfigured: nobody knows the host of the URLs.

        Whatever it raises, nothing is stored and nothing removed.
        """
        folder = folder_of(user_id)
        self._url(f"{folder}/picture.jpg", request)
        preset = self.preset
        with _refusals(preset):
            source = self._read(file, preset)
            look = cache(partial(self._look, folder))
            render = cache(partial(self._render, source, preset))
            former, stored = self._attempts().run(lambda: (look(), self._put(folder, render(), request)))
        self._save_row(stored, save, partial(self._remove_former, folder, former))
        return stored

    def resize(
        self, file: Upload, size: tuple[int, int] = RESIZED, background: str | None = None
    ) -> "ContentFile[bytes]":
        """
        A picture as JPEG of exactly `size` pixels: aspect ratio kept, never enlarged, the rest padded.

        Nothing is stored. Raises what `upload` raises, and InvalidOperationError for a size below 1 or a
        colour that is not `#rrggbb`.
        """
        preset = self._preset((_padded("resized", size, background or self._conf.background),))
        with _refusals(preset):
            render = partial(self._render, self._read(file, preset), preset)
            picture = self._attempts().run(render)
        return ContentFile(picture.variants["resized"].data, name="resized.jpg")

    def render(self, file: Upload) -> Picture:
        """The three sizes in memory, for `store`; raises what `upload` raises."""
        preset = self.preset
        with _refusals(preset):
            return self._attempts().run(partial(self._render, self._read(file, preset), preset))

    def store(
        self, user_id: UserId, picture: Picture, *, request: HttpRequest | None = None
    ) -> StoredPictures:
        """Store what `render` gave, all of it or nothing; nothing is removed. Raises what `upload` raises."""
        folder = folder_of(user_id)
        self._url(f"{folder}/picture.jpg", request)
        return self._attempts().run(partial(self._put, folder, picture, request))

    def delete(self, which: UserId | Iterable[str]) -> None:
        """
        Remove all pictures of a user, or those of certain names or URLs; within a transaction, after it.

        Whether a row still names them is not asked. Files that are gone already are no fault.

        Raises:
            InvalidKeyError: what is neither the id of a user nor a name of ours.
            StorageError: some are left, outside of a transaction; within one the log tells.
        """
        if isinstance(which, int | str | uuid.UUID):
            remove = partial(self._remove_folder, folder_of(which))
        else:
            remove = partial(self._remove, [_name_of(name) for name in which])
        if transaction.get_connection(self._using).in_atomic_block:
            once_committed(remove, self._using)
        else:
            remove()

    def cleanup(
        self,
        user_id: UserId | None = None,
        *,
        keep: Iterable[str | None] | None = None,
        older_than_seconds: float = YOUNG_SECONDS,
    ) -> tuple[str, ...]:
        """
        Remove the pictures that nobody uses: of uploads that were killed or rolled back. Gives their names.

        Args:
            user_id: whose; by default everybody's.
            keep: names or URLs in use, beside those that `in_use` names.
            older_than_seconds: younger ones may belong to an upload that is under way, and stay.

        Raises:
            django's ImproperlyConfigured: neither `in_use` nor `keep` says what is used; or the storage does
                not tell how old files are.
            StorageError: the storage cannot be looked through.
        """
        if self._in_use is None and keep is None:
            raise ImproperlyConfigured("cleanup() needs in_use or keep, to know which pictures are in use.")
        kept = _generations(keep or ())
        removed: list[str] = []
        for folder, names in self._folders(folder_of(user_id) if user_id is not None else FOLDER):
            old = [name for name in names if self._is_old(name, older_than_seconds)]
            unused = self._unused(folder, old, kept)
            left = set(remove_all(self.storage, unused))
            removed += [name for name in unused if name not in left]
        return tuple(removed)

    @property
    def preset(self) -> Preset:
        """What is accepted, and the three variants."""
        return self._preset(_variants(self._conf.background))

    @property
    def _conf(self) -> Conf:
        return self._given_conf or conf()

    def _preset(self, variants: tuple[Variant, ...]) -> Preset:
        return _preset_of(variants, self._conf.max_bytes)

    def _attempts(self) -> Attempts:
        return attempts(self._conf, self._sleep, of=FOLDER)

    def _read(self, file: Upload, preset: Preset) -> bytes:
        source = read_upload(file, preset.limits.max_bytes)
        with _engine_errors():
            check_upload(source, preset)
        return source

    def _render(self, source: bytes, preset: Preset) -> Picture:
        with _engine_errors():
            return (self._renderer or local_renderer()).render(source, preset)

    def _put(self, folder: str, picture: Picture, request: HttpRequest | None) -> StoredPictures:
        """Each try has names of its own: what a try cannot take back shares them with no picture in use."""
        stem = new_stem(folder)
        files = {
            variant: (f"{stem}_{variant}.{result.extension}", result.data)
            for variant, result in picture.variants.items()
        }
        chosen = store_all(self.storage, dict(files.values()))
        names = {variant: chosen[name] for variant, (name, _) in files.items()}
        try:
            urls = {variant: self._url(name, request) for variant, name in names.items()}
        except BaseException:
            remove_all(self.storage, names.values())
            raise
        return StoredPictures(**urls, names=PictureNames(**names), details=describe(picture, names))

    def _save_row(
        self,
        stored: StoredPictures,
        save: Callable[[StoredPictures], object] | None,
        remove_former: Callable[[], None],
    ) -> None:
        if save is None:
            once_committed(remove_former, self._using)
            return
        with transaction.atomic(using=self._using):
            try:
                save(stored)
            except BaseException:
                remove_all(self.storage, stored.names)
                raise
            once_committed(remove_former, self._using)

    def _look(self, folder: str) -> _Former:
        names = tuple(name for _, found in self._folders(folder) for name in found)
        used = frozenset(_generations(self._in_use(basename(folder)))) if self._in_use else None
        return _Former(names, used)

    def _remove_former(self, folder: str, former: _Former) -> None:
        """What the row named goes; what no row named may be another upload's, and goes once it is old."""
        candidates = [
            name
            for name in former.names
            if former.used is None or _generation(name) in former.used or self._is_old_or_unknown(name)
        ]
        remove_all(self.storage, self._unused(folder, candidates, frozenset()))

    def _remove_folder(self, folder: str) -> None:
        self._remove([name for _, names in self._folders(folder) for name in names])

    def _remove(self, names: Iterable[str]) -> None:
        if left := remove_all(self.storage, names):
            raise StorageError("Some pictures could not be removed; try again.", count=len(left))

    def _folders(self, top: str) -> Iterator[tuple[str, list[str]]]:
        """The folders of users, with our files in each."""
        ours = [name for name in list_files(self.storage, top) if _OURS.fullmatch(name)]
        for folder, names in groupby(ours, dirname):
            yield folder, list(names)

    def _unused(self, folder: str, names: Collection[str], kept: Collection[str]) -> list[str]:
        """Asked last, just before they are removed: a row may have come to name them."""
        if not names:
            return []
        used = _generations(self._in_use(basename(folder))) if self._in_use else set()
        return [name for name in names if _generation(name) not in used and _generation(name) not in kept]

    def _is_old(self, name: str, seconds: float) -> bool:
        if seconds <= 0:
            return True
        try:
            with storage_errors():
                written = self.storage.get_modified_time(name)
        except FileNotFoundError:
            return False
        except StorageError as error:
            if isinstance(error.__cause__, NotImplementedError):
                raise ImproperlyConfigured(
                    "This storage does not tell how old its files are: clean up with older_than_seconds=0, "
                    "while nobody uploads."
                ) from error
            raise
        return timezone.now() - written >= timedelta(seconds=seconds)

    def _is_old_or_unknown(self, name: str) -> bool:
        with suppress(ImproperlyConfigured):
            return self._is_old(name, YOUNG_SECONDS)
        return False

    def _url(self, name: str, request: HttpRequest | None) -> str:
        try:
            with storage_errors():
                url = self.storage.url(name)
        except StorageError as error:
            if isinstance(error.__cause__, NotImplementedError | ValueError):
                raise ImproperlyConfigured("The storage of the pictures gives them no URLs.") from error
            raise
        parts = urlsplit(url)
        if parts.scheme and parts.netloc:
            return url
        if request is not None:
            return request.build_absolute_uri(url)
        if base := self._base_url or self._conf.base_url:
            return urljoin(base, url)
        raise ImproperlyConfigured(
            "URLs of profile pictures need a host: pass the request, or set IMAGE_PROCESSOR['BASE_URL']."
        )


def profile_preset(background: str = "#ffffff", max_bytes: int = 5 * MIB) -> Preset:
    """The three variants, for an ImageField that has the same as the service."""
    return _preset_of(_variants(background), max_bytes)


def folder_of(user_id: UserId) -> str:
    """
    Where the pictures of a user lie.

    Raises InvalidKeyError for all but a whole number from 0, a UUID, or a slug of at most 64 of
    `A-Z a-z 0-9 _ -` that begins with a letter or a digit.
    """
    is_number = isinstance(user_id, int) and not isinstance(user_id, bool)
    if not (is_number or isinstance(user_id, str | uuid.UUID)) or not _SLUG.fullmatch(str(user_id)):
        raise InvalidKeyError("A user is named by a whole number, a UUID or a slug.")
    return f"{FOLDER}/{user_id}"


def _variants(background: str) -> tuple[Variant, ...]:
    return (
        Variant(name="original", output=JpegOutput(background=background)),
        _padded("resized", RESIZED, background),
        _padded("thumbnail", THUMBNAIL, background),
    )


def _padded(name: str, size: tuple[int, int], background: str) -> Variant:
    width, height = size
    try:
        resize = Resize(width=width, height=height, fit=Fit.PAD, background=background)
        return Variant(name=name, operations=(resize,), output=JpegOutput(background=background))
    except pydantic.ValidationError as error:
        raise InvalidOperationError(
            f"The size or the colour is refused: {describe_faults(error)}."
        ) from error


def _preset_of(variants: tuple[Variant, ...], max_bytes: int) -> Preset:
    return Preset(pipeline=Pipeline(variants=variants), accepts=ACCEPTS, limits=Limits(max_bytes=max_bytes))


def _generation(name_or_url: str) -> str | None:
    found = _GENERATION.fullmatch(basename(urlsplit(name_or_url).path))
    return found["generation"] if found else None


def _generations(names_or_urls: Iterable[str | None]) -> set[str]:
    found = (_generation(str(value)) for value in names_or_urls if value)
    return {generation for generation in found if generation}


def _name_of(name_or_url: str) -> str:
    found = re.search(rf"(?:^|/)({_OURS.pattern})$", urlsplit(name_or_url).path)
    if not found:
        raise InvalidKeyError("This is not the name of a profile picture.")
    return found[1]


@contextmanager
def _refusals(preset: Preset) -> Iterator[None]:
    try:
        yield
    except RejectedError as error:
        raise as_validation_error(error, preset) from error


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Whatever a renderer raises that is no error of this package."""
    try:
        yield
    except ImageProcessorError:
        raise
    except Exception as error:
        raise EngineError("The picture could not be processed.") from error
