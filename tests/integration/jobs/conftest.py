"""A fresh database for each test, and what works on it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

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
from integration.jobs.job_samples import UNLIMITED, an_upload

AT_ONCE = RetryPolicy(delays_seconds=(0.0,), snooze_jitter_seconds=0.0)
GRACE_SECONDS = 900.0


@dataclass
class Room:
    """The repositories on one database, with the shortcuts that tests want."""

    path: Path
    database: Database
    policy: RetryPolicy = AT_ONCE
    grace_seconds: float = GRACE_SECONDS

    def __post_init__(self):
        together = {"policy": self.policy, "purge_grace_seconds": self.grace_seconds}
        self.jobs = JobRepository(self.database, **together, jitter=lambda: 0.0)
        self.recovery = RecoveryRepository(self.database, **together)
        self.images = ImageRepository(self.database, purge_grace_seconds=self.grace_seconds)
        self.rate_limits = RateLimitRepository(self.database)
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
            connection.execute(text(sql), parameters)

    def row(self, sql: str, **parameters: Any) -> dict[str, Any]:
        with self.database.read() as connection:
            return dict(connection.execute(text(sql), parameters).mappings().one())

    def job_row(self, job_id: str) -> dict[str, Any]:
        return self.row("select * from processing_jobs where job_id = :job_id", job_id=job_id)

    def image_row(self, image_id: str) -> dict[str, Any]:
        return self.row("select * from images where image_id = :image_id", image_id=image_id)

    def counts(self) -> dict[str, int]:
        tables = ("images", "processing_jobs", "image_upload_events", "upload_rate_limits")
        return {table: self.row(f"select count(*) as n from {table}")["n"] for table in tables}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("jobs") / "migrated.db"
    database = Database.open(path)
    database.migrate()
    database.close()
    return path


@pytest.fixture
def database_path(migrated, tmp_path) -> Path:
    return Path(shutil.copy(migrated, tmp_path / "processor.db"))


@pytest.fixture
def database(database_path):
    database = Database.open(database_path)
    yield database
    database.close()


@pytest.fixture
def room(database_path, database) -> Room:
    return Room(database_path, database)
