"""The storage in a bucket of S3; how it reads and writes stands beside."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from image_processor.errors import ConfigurationError
from image_processor.storage.base import Guard, Guards, ListedObject, StoredObject
from image_processor.storage.keys import KeyTemplate, check_key, check_prefix
from image_processor.storage.s3.client import S3Options, client_for
from image_processor.storage.s3.friendly import Friendly
from image_processor.storage.s3.metadata import encode_metadata
from image_processor.storage.s3.place import Place
from image_processor.storage.s3.presigning import Presigning
from image_processor.storage.s3.reading import (
    check_bucket_answers,
    listed_objects,
    open_object,
    stat_object,
)
from image_processor.storage.s3.writing import (
    WriteTerms,
    abort_uploads,
    delete_object,
    headers,
    put_object,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")


class S3Storage(Friendly):
    """
    Objects in one bucket, safe for threads; all storages of a process with equal options share a client.

    `region` stands above that of the options. `path_template` names what `upload` stores. `address` makes
    the address of a key, instead of one that is signed for an hour. The SHA-256 of what is put is kept as
    metadata `sha256`. Unlike on a disk, a key may run through another object's: `a` beside `a/b`.

    Raises MissingExtraError without the extra `s3`, ConfigurationError for what makes no storage. Methods
    raise, besides what `Storage` names, the subclasses of StorageDownError, and StorageDamageError where
    bytes did not arrive as they were sent.
    """

    def __init__(  # noqa: PLR0913 (the seed's three, and one word for each thing that is shared)
        self,
        bucket: str,
        *,
        region: str = "",
        path_template: str = "{date}/{hash}.{ext}",
        options: S3Options | None = None,
        terms: WriteTerms | None = None,
        guards: Guards | None = None,
        address: Callable[[str], str] | None = None,
    ) -> None:
        if not bucket:
            raise ConfigurationError("A storage in S3 needs the name of its bucket.")
        options = options or S3Options()
        self.bucket = bucket
        self.options = replace(options, region=region or options.region)
        self.terms = terms or WriteTerms()
        self.guards = guards or Guards()
        self.template = KeyTemplate(path_template)
        self._address = address or Presigning(bucket, self.options).get
        self._place = Place(bucket=bucket, options=self.options, guards=self.guards)
        client_for(self.options)  # what is wrong with the settings shows now

    @property
    def client(self) -> "S3Client":
        """This process's client, which may be another one after its credentials were renewed."""
        return self._place.client

    def put(
        self,
        key: str,
        source: Path,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
    ) -> StoredObject:
        """
        Store the bytes of a local file; see `Storage.put`. What is there afterwards is looked at.

        `metadata` comes back from `user_metadata`; `cache_control` stands above the terms, empty for none.
        Raises InvalidRequestError for headers that are not printable ASCII, or more than S3 takes.
        """
        stored = headers(self.terms, content_type, encode_metadata(metadata or {}), cache_control)
        return put_object(self._place, check_key(key), source, stored, self.terms.multipart_threshold_bytes)

    def open(self, key: str) -> BinaryIO:
        """
        The bytes, as a seekable binary file that streams, and holds 256 KiB of them. Raises NotFoundError.

        Its reads raise what methods here raise; StorageDamageError where the object is replaced meanwhile.
        """
        return open_object(self._place, check_key(key))

    def stat(self, key: str) -> StoredObject:
        """What is known of the object. Raises NotFoundError."""
        return stat_object(self._place, check_key(key))

    def delete(self, key: str) -> bool:
        """
        Remove the object; False where there was none.

        In a bucket that keeps versions, those of the object are removed too. Where we may not do that they
        stay, hidden, with an event `storage.versions.kept`: let a lifecycle rule expire them.
        """
        return delete_object(self._place, check_key(key))

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix; what other hands stored under no key of our grammar is passed over."""
        return (entry.key for entry in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """The same with sizes and times, page by page as they are asked for."""
        return listed_objects(self._place, check_prefix(prefix))

    def url(self, key: str) -> str:
        """The address under which a client gets the bytes; made here."""
        return self._address(check_key(key))

    def check(self) -> None:
        """Nothing, if the bucket answers and may be listed; else raises what any method would raise now."""
        check_bucket_answers(self._place)

    def free_bytes(self) -> int | None:
        """None: there is no bound."""
        return None

    def sweep_incoming(self, older_than_seconds: float) -> int:
        """
        Remove the parts of uploads that were begun so long ago and never completed; the number of uploads.

        All in the bucket are meant, whoever began them.
        """
        return abort_uploads(self._place, older_than_seconds)

    def _call(self, what: str, guard: Guard, work: Callable[[], T]) -> T:
        """What the work gives or raises, in our words; see `Place.call`."""
        return self._place.call(what, guard, work)
