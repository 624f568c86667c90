"""A fresh database of either kind for each test, and what works on it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from image_processor.jobs import (
    Claim,
    Database,
    ImageRepository,
    JobRepository,
    RateLimitRepository,
    Receipt,
    RecoveryRepository,
    RetryPolicy,
    StatisticsRepository,
)
from image_processor.jobs.clock import statement
from image_processor.jobs.listing import JobListing
from integration.jobs.job_samples import UNLIMITED, an_upload

AT_ONCE = RetryPolicy(delays_seconds=(0.0,), snooze_jitter_seconds=0.0)
GRACE_SECONDS = 900.0
TABLES = (
    *("processing_jobs", "images", "image_upload_events", "upload_rate_limits", "workers"),
    *("idempotency_keys", "job_progress", "webhook_deliveries", "transport_epochs"),
    *("direct_uploads", "s3_images"),
)


@dataclass
class Room:
    """The repositories on one database, with the shortcuts that tests want."""

    where: Path | str
    database: Database
    policy: RetryPolicy = AT_ONCE
    grace_seconds: float = GRACE_SECONDS

    def __post_init__(self):
        together = {"policy": self.policy, "purge_grace_seconds": self.grace_seconds}
        self.jobs = JobRepository(self.database, **together, jitter=lambda: 0.0)
        self.recovery = RecoveryRepository(self.database, **together)
        self.images = ImageRepository(self.database, purge_grace_seconds=self.grace_seconds)
        self.rate_limits = RateLimitRepository(self.database)
        self.listing = JobListing(self.database)
        self.statistics = StatisticsRepository(self.database)

    def submit(self, **fields: Any) -> Receipt:
        return self.jobs.submit(an_upload(**fields), UNLIMITED)

    def claim(self, worker_id: str = "worker-1", lease_seconds: float = 60.0, **fields: Any) -> Claim:
        """Submit a job and claim it."""
        receipt = self.submit(**fields)
        claim = self.jobs.claim(worker_id, lease_seconds, receipt.job_id)
        assert claim is not None
        return claim

    def execute(self, sql: str, **parameters: Any) -> None:
        """Change rows behind the repositories' back."""
        with self.database.write() as connection:
            connection.execute(statement(sql), parameters)

    def row(self, sql: str, **parameters: Any) -> dict[str, Any]:
        with self.database.read() as connection:
            return dict(connection.execute(statement(sql), parameters).mappings().one())

    def job_row(self, job_id: str) -> dict[str, Any]:
        return self.row("select * from processing_jobs where job_id = :job_id", job_id=job_id)

    def image_row(self, image_id: str) -> dict[str, Any]:
        return self.row("select * from images where image_id = :image_id", image_id=image_id)

    def replay(self, job_id: str, user_id: str = "ada") -> bool:
        return self.jobs.replay(job_id, user_id=user_id)

    def counts(self) -> dict[str, int]:
        tables = ("images", "processing_jobs", "image_upload_events", "upload_rate_limits")
        return {table: self.row(f"select count(*) as n from {table}")["n"] for table in tables}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """A migrated file, to be copied."""
    path = tmp_path_factory.mktemp("jobs") / "migrated.db"
    _migrate(path)
    return path


@pytest.fixture(scope="session")
def shared_url(postgres) -> str:
    """A migrated database on the server; whoever uses it finds it empty."""
    url = postgres.new_database()
    _migrate(url)
    return url


def _migrate(where: Path | str) -> None:
    database = Database.open(where)
    database.migrate()
    database.close()


def emptied(url: str) -> str:
    """Quicker than a new database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("".join(f"delete from {table};" for table in TABLES))
    return url


@pytest.fixture
def empty_url(shared_url) -> str:
    return emptied(shared_url)


@pytest.fixture
def database_path(migrated, tmp_path) -> Path:
    return Path(shutil.copy(migrated, tmp_path / "processor.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request) -> Path | str:
    """What `Database.open` takes; modules of one kind have their own."""
    return request.getfixturevalue({"sqlite": "database_path", "postgresql": "empty_url"}[request.param])


@pytest.fixture
def database(where) -> Iterator[Database]:
    database = Database.open(where)
    yield database
    database.close()


@pytest.fixture
def room(where, database) -> Room:
    return Room(where, database)
