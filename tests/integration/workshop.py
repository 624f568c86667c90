"""All that works on one job, wired by hand on a real database and a real storage, with engines to order."""

import hashlib
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy import text

from image_processor.errors import ImageProcessorError
from image_processor.intake.stage import Stage
from image_processor.jobs import (
    Claim,
    Database,
    EventType,
    ImageRepository,
    JobRepository,
    NewJob,
    RateLimit,
    RateLimitRepository,
    Receipt,
    RecoveryRepository,
    RetryPolicy,
)
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.values import StoredVariant
from image_processor.jobs.workers import WorkerRepository
from image_processor.locations import Locations
from image_processor.maintenance import House
from image_processor.originals import FetchTurns, Originals
from image_processor.outbound import Outbound
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits
from image_processor.runner import Attempt, Places, Runner
from image_processor.storage.base import Storage
from image_processor.telemetry import subscribe
from image_processor.testing import sample_images
from image_processor.testing.fake_engine import FakeEngine
from image_processor.transports.base import Transport
from image_processor.transports.embedded import EmbeddedTransport
from migrated import put_migrated

FREE = FetchTurns(2, lambda _user_id: False)

WEB = BUILTIN_PRESETS["web"]
PICTURE = sample_images.photo(320, 240)
UNLIMITED = RateLimit(max_uploads=0)
AT_ONCE = RetryPolicy(delays_seconds=(0.0,), snooze_jitter_seconds=0.0)
BUSY_SECONDS = 0.05
PATIENCE_SECONDS = 20.0
"""How long a test waits for what must come; it passes long before."""


@dataclass
class Workshop:
    """A database, a stage, a storage and a runner in one folder."""

    folder: Path
    storage: Storage
    grace_seconds: float = 900.0
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Every event that was emitted, oldest first."""

    def __post_init__(self):
        self.path = put_migrated(self.folder / "processor.db")
        self.database = Database.open(self.path, busy_timeout_seconds=BUSY_SECONDS)
        self.database.migrate()
        together = {"policy": AT_ONCE, "purge_grace_seconds": self.grace_seconds}
        self.jobs = JobRepository(self.database, **together, jitter=lambda: 0.0)
        self.recovery = RecoveryRepository(self.database, **together)
        self.images = ImageRepository(self.database, purge_grace_seconds=self.grace_seconds)
        self.rate_limits = RateLimitRepository(self.database)
        self.dispatch = DispatchRepository(self.database)
        self.workers = WorkerRepository(self.database)
        self.progress = ProgressRepository(self.database)
        self.stage = Stage(self.folder / "staging")
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()
        self.runner = self.runner_on(self.storage)
        self._unsubscribe = subscribe(lambda event, fields: self.told.append((event, fields)))

    def close(self) -> None:
        self._unsubscribe()
        self.database.close()

    def runner_on(self, storage: Storage) -> Runner:
        locations = Locations(
            file_roots=(), outbound=Outbound(), buckets=lambda _name: storage, fetch_timeout_seconds=5.0
        )
        return Runner(
            jobs=self.jobs,
            progress=self.progress,
            originals=Originals(
                stage=self.stage, locations=locations, accepts=WEB.accepts, limits=Limits(), turns=FREE
            ),
            places=Places(storage=storage, locations=locations),
            scratch=self.scratch,
            limits=Limits(),
        )

    def house(self, transport: Transport | None = None, **changes: Any) -> House:
        """What a sweeper keeps in order here."""
        given = {
            "jobs": self.jobs,
            "images": self.images,
            "recovery": self.recovery,
            "rate_limits": self.rate_limits,
            "dispatch": self.dispatch,
            "workers": self.workers,
            "transport": transport or EmbeddedTransport(),
            "stage": self.stage,
            "storage": self.storage,
            "scratch": self.scratch,
            "sweeps": (),
            "lease_seconds": 30.0,
            "retention_days": 14,
            "rate_limit_window_seconds": 3600,
        }
        return House(**(given | changes))

    def submit(self, picture: bytes = PICTURE, **fields: Any) -> Receipt:
        """Stage a picture and make a job of it, as the service does."""
        staging = self.stage.open(WEB.accepts, Limits())
        staging.write(picture)
        staged = staging.finish()
        given = {
            "user_id": "ada",
            "bucket": "holiday",
            "preset": "web",
            "pipeline": WEB.pipeline,
            "key_template": WEB.key_template,
            "source_format": ImageFormat.JPEG,
            "source_bytes": staged.size_bytes,
            "sha256": staged.sha256,
            "staging_path": staged.name,
        }
        return self.jobs.submit(NewJob(**(given | fields)), UNLIMITED)

    def claim(self, lease_seconds: float = 60.0) -> Claim:
        claim = self.jobs.claim("worker-1", lease_seconds)
        assert claim is not None
        return claim

    def attempt(self, engine: FakeEngine | None = None, **fields: Any) -> Attempt:
        """An attempt at a new job."""
        self.submit(**fields)
        return Attempt(self.claim(), engine or FakeEngine())

    def run(self, engine: FakeEngine | None = None, **fields: Any) -> Attempt:
        """The same, run to its end."""
        attempt = self.attempt(engine, **fields)
        self.runner.run(attempt)
        return attempt

    def take_over(self, attempt: Attempt) -> Attempt:
        """End the lease of a job, reap it and claim it anew, as another worker would."""
        self.execute(
            "update processing_jobs set lease_until = 0 where job_id = :job_id", job_id=attempt.claim.job_id
        )
        assert [settled.job_id for settled in self.recovery.reap()] == [attempt.claim.job_id]
        return Attempt(self.claim(), FakeEngine())

    def execute(self, sql: str, **parameters: Any) -> None:
        """Change rows behind the repositories' back."""
        with self.database.write() as connection:
            connection.execute(text(sql), parameters)

    def job_row(self, job_id: str) -> dict[str, Any]:
        with self.database.read() as connection:
            sql = text("select * from processing_jobs where job_id = :job_id")
            return dict(connection.execute(sql, {"job_id": job_id}).mappings().one())

    def outcome(self, attempt: Attempt) -> tuple[str, str | None, int]:
        """Status, reason and the attempts that count."""
        row = self.job_row(attempt.claim.job_id)
        return row["status"], row["reason"], row["attempt_count"]

    def completions(self, job: Claim | Receipt) -> int:
        return [event.event_type for event in self.jobs.events(job.job_id)].count(EventType.COMPLETED)

    def variants(self, job: Claim | Receipt) -> dict[str, StoredVariant]:
        image = self.images.image(job.image_id, "ada")
        assert image is not None
        return dict(image.variants)

    def assert_whole(self, job: Claim | Receipt) -> None:
        """Every pointer of the image leads to the bytes that its row names, and nothing else is stored."""
        variants = self.variants(job)
        assert list(variants) == [variant.name for variant in WEB.pipeline.variants]
        for variant in variants.values():
            with self.storage.open(variant.key) as opened:
                content = opened.read()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (
                variant.size_bytes,
                variant.sha256,
            )
        assert sorted(self.storage.keys("")) == sorted(variant.key for variant in variants.values())

    def staged(self) -> list[str]:
        return [path.name for path in self.stage.directory.iterdir()]

    def events_told(self, *names: str) -> list[str]:
        return [event for event, _ in self.told if not names or event in names]

    @contextmanager
    def write_lock(self, *, until: Callable[[str], bool] = lambda _event: False):
        """The only write lock, held by a stranger until `until` says so of an event, or the block ends."""
        stranger = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        stranger.execute("begin immediate")

        def let_go(event: str, _fields: dict[str, Any]) -> None:
            if stranger.in_transaction and until(event):
                stranger.execute("rollback")

        unsubscribe = subscribe(let_go)
        try:
            yield
        finally:
            unsubscribe()
            stranger.close()


class FailingEngine(FakeEngine):
    """Fails with one error after the other, then renders."""

    def __init__(self, *errors: Exception):
        super().__init__()
        self._errors = list(errors)

    def render(self, request, *, deadline_seconds, on_progress=None):
        if self._errors:
            raise self._errors.pop(0)
        return super().render(request, deadline_seconds=deadline_seconds, on_progress=on_progress)


class BusyEngine(FakeEngine):
    """Does something when it has rendered, before its answer is used."""

    def __init__(self, then: Callable[[], None]):
        super().__init__()
        self._then = then

    def render(self, request, *, deadline_seconds, on_progress=None):
        rendering = super().render(request, deadline_seconds=deadline_seconds, on_progress=on_progress)
        self._then()
        return rendering


def an_error(kind: type[ImageProcessorError]) -> ImageProcessorError:
    return kind("The test says so.")


@contextmanager
def in_thread(work: Callable[..., object], *arguments: object):
    """Work that goes on beside the block and has ended soon after it."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
