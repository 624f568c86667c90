"""A service on a real S3 server and a real database, with the shortcuts that tests want."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.s3_images import (
    S3ImagePlaces,
    S3ImageRepository,
    S3ImageResponse,
    S3ImageService,
    S3ImageTerms,
)
from image_processor.s3_images.rows import Hold, ImageKind, NewImage
from image_processor.storage.breaker import Breaker
from image_processor.storage.s3 import S3Options, S3Storage
from image_processor.storage.s3.writing import WriteTerms
from image_processor.testing import sample_images
from s3_server import OWNER, S3Server

T = TypeVar("T")
SESSION = "session-1"
PICTURE = sample_images.photo(64, 48)
OTHER_PICTURE = sample_images.png(64, 48)
PATIENCE_SECONDS = 60.0


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, PATIENCE_SECONDS))


def options(url: str) -> S3Options:
    return S3Options(
        endpoint_url=url,
        access_key_id=OWNER["aws_access_key_id"],
        secret_access_key=OWNER["aws_secret_access_key"],
        addressing_style="path",
        max_attempts=1,
    )


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class GatedStorage(S3Storage):
    """Waits in each put, after its object is there, until it is let go."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.has_put, self.go_on = threading.Event(), threading.Event()

    def put(self, *arguments: Any, **options: Any):
        stored = super().put(*arguments, **options)
        self.has_put.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return stored


@dataclass
class Studio:
    """The service, and what it stands on."""

    server: S3Server
    where: Path | str
    database: Database
    buckets: tuple[str, str]
    client: Any
    """To look at S3 from outside."""
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self):
        self.repository = S3ImageRepository(self.database)
        self.breaker = Breaker("test", clock=self.clock)
        self.terms = S3ImageTerms()
        self.places = self.places_at(self.server.url)
        self.service = self.another()

    @property
    def original(self) -> str:
        return self.buckets[0]

    @property
    def visualization(self) -> str:
        return self.buckets[1]

    def places_at(self, url: str, *, kind: type[S3Storage] = S3Storage, **terms: Any) -> S3ImagePlaces:
        original, visualization = (
            kind(bucket, options=options(url), terms=WriteTerms(**terms)) for bucket in self.buckets
        )
        return S3ImagePlaces(original=original, visualization=visualization, breaker=self.breaker)

    def another(self, places: S3ImagePlaces | None = None, **terms: Any) -> S3ImageService:
        """A service with another way to S3, or on other terms."""
        return S3ImageService(self.repository, places or self.places, replace(self.terms, **terms))

    def upload(self, content: bytes = PICTURE, filename: str = "leaf.jpg", **said: Any) -> S3ImageResponse:
        return run(self.service.upload_original(content, SESSION, {"filename": filename, **said}))

    def row(self, image_id: str) -> dict[str, Any] | None:
        with self.database.read() as connection:
            sql = statement("select * from s3_images where image_id = :image_id")
            found = connection.execute(sql, {"image_id": image_id}).mappings().first()
            return None if found is None else dict(found)

    def rows(self) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(statement("select * from s3_images")).mappings()]

    def execute(self, sql: str) -> None:
        with self.database.write() as connection:
            connection.execute(statement(sql))

    def end_leases(self) -> None:
        """As if the time of whoever holds a row were over."""
        self.execute("update s3_images set lease_until = 0")

    def content(self, key: str, bucket: str | None = None) -> bytes | None:
        """What lies in S3, looked at from outside."""
        with suppress(self.client.exceptions.NoSuchKey):
            return self.client.get_object(Bucket=bucket or self.original, Key=key)["Body"].read()
        return None

    def keys(self) -> list[str]:
        listed = [self.client.list_objects_v2(Bucket=bucket).get("Contents", []) for bucket in self.buckets]
        return sorted(entry["Key"] for contents in listed for entry in contents)

    def hold(self, content_digest: str, filename: str = "leaf.jpg") -> Hold:
        """The row of an upload whose process dies before it can do more."""
        image = NewImage(
            session_id=SESSION,
            kind=ImageKind.ORIGINAL,
            s3_bucket=self.original,
            s3_key_original=f"{SESSION}/{filename}",
            filename=filename,
            content_type="image/jpeg",
            file_size_bytes=len(PICTURE),
            sha256=content_digest,
            details={},
        )
        held = self.repository.hold_for_upload(image, lease_seconds=300)
        assert isinstance(held, Hold)
        return held
