"""One bucket: how it is reached, and the one way in which anything is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from image_processor.errors import StorageCredentialsError
from image_processor.storage.base import Guard, Guards
from image_processor.storage.s3.client import S3Options, client_for, forget_client, translated

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket behind its guards."""

    bucket: str
    options: S3Options = field(default_factory=S3Options)
    guards: Guards = field(default_factory=Guards)

    @property
    def client(self) -> "S3Client":
        """This process's client."""
        return client_for(self.options)

    def call(self, what: str, guard: Guard, work: Callable[[], T]) -> T:
        """
        What the work gives, with its errors in our words; `what` is an action, such as `read 'a/b.webp'`.

        The guard sees our errors, so that it can tell a missing key from a place that is down. After a
        refusal of credentials that boto3 found by itself they are looked up anew at the next call: those of
        a file or an environment may have been changed since.
        """
        try:
            return guard.call(_translated_work, what, work)
        except StorageCredentialsError:
            if not self.options.access_key_id:
                forget_client(self.options)
            raise

    def read(self, what: str, work: "Callable[[S3Client], T]") -> T:
        """What the client gives of what is there."""
        return self.call(what, self.guards.reading, lambda: work(self.client))

    def write(self, what: str, work: "Callable[[S3Client], T]") -> T:
        """What the client gives for a change."""
        return self.call(what, self.guards.writing, lambda: work(self.client))


def _translated_work(what: str, work: Callable[[], T]) -> T:
    with translated(what):
        return work()
