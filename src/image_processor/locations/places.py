"""Which place a URI names, and the four things that are done there: check, fetch, put, remove."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from image_processor.errors import (
    FileTooLargeError,
    InvalidRequestError,
    NotFoundError,
    SourceNotFoundError,
    SourceUnavailableError,
    StorageDeniedError,
)
from image_processor.locations.folders import Folders
from image_processor.locations.uris import ObjectUri, parse_file_uri, parse_object_uri, scheme_of
from image_processor.outbound import Outbound
from image_processor.storage.base import Storage

CHUNK_BYTES = 256 * 1024
MIB = 1024 * 1024
WEB = frozenset({"https", "http"})

Buckets = Callable[[str], Storage]


class Locations:
    """
    The places that jobs read from and write to: `https://` (read only), `file://` and `s3://`.

    `file_roots` are the folders that `file://` may lead into; `buckets` gives the storage of a bucket, or
    raises InvalidRequestError where there is none. Fetching takes `fetch_timeout_seconds` at most, in all.
    """

    def __init__(
        self,
        *,
        file_roots: Sequence[Path],
        outbound: Outbound,
        buckets: Buckets,
        fetch_timeout_seconds: float,
    ) -> None:
        self._folders = Folders(file_roots)
        self._outbound = outbound
        self._buckets = buckets
        self._fetch_timeout_seconds = fetch_timeout_seconds

    def check_source(self, uri: str) -> str:
        """
        The URI of an input in its canonical form; nothing is looked up or opened.

        Raises InvalidRequestError, InvalidKeyError or AddressRefusedError with what is wrong with it.
        """
        match scheme_of(uri):
            case "https" | "http":
                return self._outbound.check(uri)
            case _:
                return self._check_writable(uri, "An input is an https://, file:// or s3:// URI.")

    def check_destination(self, uri: str) -> str:
        """The URI of an output in its canonical form; raises as `check_source`."""
        if scheme_of(uri) in WEB:
            raise InvalidRequestError("An https:// URI can be read from but not written to.")
        return self._check_writable(uri, "An output is a file:// or s3:// URI.")

    def fetch(self, uri: str, *, max_bytes: int) -> AbstractContextManager[Iterator[bytes]]:
        """
        The bytes under a URI, in chunks as they come.

        Raises, on entry or between chunks:
            SourceNotFoundError: there is nothing, or it is not given to us.
            SourceUnavailableError: the place failed or was too slow.
            UnavailableError: a bucket's storage cannot be reached, or refuses us the whole bucket; who runs
                the service set it free for jobs, and so has to mend that.
            FileTooLargeError: there are more than `max_bytes`.
            InvalidRequestError, InvalidKeyError, AddressRefusedError: as `check_source`.
        """
        match scheme_of(uri):
            case "file":
                return self._folders.fetch(parse_file_uri(uri), max_bytes)
            case "s3":
                return self._fetch_object(parse_object_uri(uri), max_bytes)
            case _:
                return self._outbound.get(
                    uri, max_bytes=max_bytes, timeout_seconds=self._fetch_timeout_seconds
                )

    def put(self, uri: str, source: Path, *, content_type: str) -> None:
        """
        Write a local file there, whole or not at all; replaces what file or object is there.

        Raises InvalidRequestError as `check_destination` or where something is in the way; StorageFullError,
        UnavailableError, StorageError.
        """
        if scheme_of(uri) == "file":
            self._folders.put(parse_file_uri(uri), source)
        else:
            place = self._object(uri)
            self._buckets(place.bucket).put(place.key, source, content_type=content_type)

    def remove(self, uri: str) -> None:
        """Remove what `put` wrote; none there is fine. Raises as `put`."""
        if scheme_of(uri) == "file":
            self._folders.remove(parse_file_uri(uri))
        else:
            place = self._object(uri)
            self._buckets(place.bucket).delete(place.key)

    def _check_writable(self, uri: str, otherwise: str) -> str:
        match scheme_of(uri):
            case "file":
                file = parse_file_uri(uri)
                self._folders.check(file)
                return str(file)
            case "s3":
                place = parse_object_uri(uri)
                self._buckets(place.bucket)
                return str(place)
            case _:
                raise InvalidRequestError(otherwise)

    def _object(self, uri: str) -> ObjectUri:
        return parse_object_uri(self.check_destination(uri))

    @contextmanager
    def _fetch_object(self, place: ObjectUri, max_bytes: int) -> Iterator[Iterator[bytes]]:
        storage = self._buckets(place.bucket)
        try:
            opened = storage.open(place.key)
        except NotFoundError as error:
            raise SourceNotFoundError("There is no such object under the s3:// input.") from error
        except StorageDeniedError as error:
            storage.check()
            raise SourceNotFoundError("The s3:// input is not one that is given to us.") from error
        with opened as file:
            yield _chunks(file.read, max_bytes, time.monotonic() + self._fetch_timeout_seconds)


def _chunks(read: Callable[[int], bytes], max_bytes: int, ends_at: float) -> Iterator[bytes]:
    received = 0
    try:
        while chunk := read(CHUNK_BYTES):
            received += len(chunk)
            if received > max_bytes:
                raise FileTooLargeError(
                    f"The file is larger than {max_bytes / MIB:g} MB.", max_bytes=max_bytes
                )
            if time.monotonic() > ends_at:
                raise SourceUnavailableError("The s3:// input did not come in full in time.")
            yield chunk
    except OSError as error:
        raise SourceUnavailableError(f"The s3:// input cannot be read: {error.strerror}.") from error
