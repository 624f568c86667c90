"""The composition root: settings in, a wired application out. The only place that picks implementations."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from image_processor.engine.base import Engine
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import ConfigurationError
from image_processor.intake.stage import Stage
from image_processor.jobs.database import Database
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.statistics import StatisticsRepository
from image_processor.jobs.values import RateLimit
from image_processor.jobs.workers import WorkerRepository
from image_processor.maintenance import House, Sweeper
from image_processor.placement import check_preset
from image_processor.runner import Runner
from image_processor.service import ImageService, Intake
from image_processor.settings import MIB, Settings
from image_processor.storage.base import Storage
from image_processor.storage.local import LocalStorage
from image_processor.transports.base import Transport
from image_processor.transports.embedded import EmbeddedTransport

HOUR_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class App:
    """What the fronts need: the service, and what the health pages look at."""

    settings: Settings
    database: Database
    service: ImageService
    statistics: StatisticsRepository
    jobs: JobRepository
    storage: Storage

    def close(self) -> None:
        """Give back what is held."""
        self.database.close()


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What a worker process needs."""

    settings: Settings
    database: Database
    jobs: JobRepository
    workers: WorkerRepository
    transport: Transport
    runner: Runner
    sweeper: Sweeper
    new_engine: Callable[[], Engine]

    def close(self) -> None:
        """Give back what is held."""
        self.database.close()


def check_presets(settings: Settings) -> None:
    """Raise ConfigurationError for a preset whose variants could not be stored."""
    for name, preset in settings.presets.items():
        check_preset(name, preset)


def check_folders(settings: Settings) -> None:
    """Raise ConfigurationError where a folder that the service writes to cannot be made or written to."""
    for folder in (settings.storage, settings.staging, settings.scratch):
        _make_folder(folder)


def open_database(settings: Settings) -> Database:
    """The database, its tables up to date. Raises ConfigurationError, UnavailableError."""
    database = Database.open(settings.database)
    database.migrate()
    return database


def build_app(settings: Settings, *, transport: Transport | None = None) -> App:
    """The application behind the fronts."""
    database = open_database(settings)
    jobs = JobRepository(database)
    storage = open_storage(settings)
    service = ImageService(
        jobs=jobs,
        image_rows=ImageRepository(database),
        rate_limits=RateLimitRepository(database),
        stage=open_stage(settings),
        storage=storage,
        transport=transport or EmbeddedTransport(),
        intake=intake(settings),
    )
    return App(
        settings=settings,
        database=database,
        service=service,
        statistics=StatisticsRepository(database),
        jobs=jobs,
        storage=storage,
    )


def build_worker(settings: Settings, *, transport: Transport | None = None) -> WorkerParts:
    """What a worker process needs; its engines are made one a slot."""
    database = open_database(settings)
    jobs = JobRepository(database)
    stage, storage = open_stage(settings), open_storage(settings)
    _make_folder(settings.scratch)
    house = House(
        jobs=jobs,
        images=ImageRepository(database),
        recovery=RecoveryRepository(database, policy=RetryPolicy()),
        rate_limits=RateLimitRepository(database),
        stage=stage,
        storage=storage,
        scratch=settings.scratch,
        sweeps=(storage.sweep_incoming,),
        lease_seconds=settings.lease_seconds,
        retention_days=settings.retention_days,
        rate_limit_window_seconds=settings.rate_limit_window_minutes * 60,
    )
    return WorkerParts(
        settings=settings,
        database=database,
        jobs=jobs,
        workers=WorkerRepository(database),
        transport=transport or EmbeddedTransport(),
        runner=Runner(
            jobs=jobs, stage=stage, storage=storage, scratch=settings.scratch, limits=settings.limits
        ),
        sweeper=Sweeper(house),
        new_engine=lambda: new_engine(settings),
    )


def new_engine(settings: Settings) -> IsolatedEngine:
    """An engine that sees the stage, and writes into the scratch folder alone."""
    return new_local_engine(settings, readable=(settings.staging,), scratch=settings.scratch)


def new_local_engine(settings: Settings, *, readable: tuple[Path, ...], scratch: Path) -> IsolatedEngine:
    """An engine for files that lie in folders of the caller's choice."""
    return IsolatedEngine(readable=readable, writable=(scratch,), memory_bytes=settings.codec_memory_mb * MIB)


def open_stage(settings: Settings) -> Stage:
    """Where uploads wait for their worker."""
    return Stage(settings.staging, min_free_bytes=settings.min_free_bytes)


def open_storage(settings: Settings) -> LocalStorage:
    """Where variants are kept."""
    return LocalStorage(settings.storage)


def intake(settings: Settings) -> Intake:
    """What uploads may be, and how their jobs are to run."""
    window = settings.rate_limit_window_minutes * 60
    return Intake(
        accepts=settings.accepts,
        limits=settings.limits,
        presets=settings.presets,
        rate_limit=RateLimit(max_uploads=settings.rate_limit_max_uploads, window_seconds=window),
        job_ttl_seconds=settings.job_ttl_hours * HOUR_SECONDS,
        max_retries=settings.max_retries,
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"The folder {folder} cannot be written to.")
