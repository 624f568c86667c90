"""The composition root: settings in, a wired application out. The only place that picks implementations."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from image_processor.engine.base import Engine
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.intake.stage import Stage
from image_processor.job_submission import JobSubmission
from image_processor.jobs.database import Database
from image_processor.jobs.deliveries import DeliveryRepository
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.listing import JobListing
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.statistics import StatisticsRepository
from image_processor.jobs.strays import StrayRepository
from image_processor.jobs.values import RateLimit
from image_processor.jobs.workers import WorkerRepository
from image_processor.locations import Locations
from image_processor.maintenance import House, Sweeper
from image_processor.originals import FetchTurns, Originals
from image_processor.outbound import Outbound
from image_processor.placement import check_preset, variant_urls
from image_processor.runner import Places, Runner
from image_processor.service import ImageService, Intake
from image_processor.settings import MIB, Settings
from image_processor.storage.base import Storage
from image_processor.storage.local import LocalStorage
from image_processor.transports.base import Transport
from image_processor.transports.embedded import EmbeddedTransport
from image_processor.webhooks import Courier, read_secret

HOUR_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class App:
    """What the fronts need: the service, and what the health pages look at."""

    settings: Settings
    database: Database
    service: ImageService
    submission: JobSubmission
    listing: JobListing
    progress: ProgressRepository
    deliveries: DeliveryRepository
    statistics: StatisticsRepository
    jobs: JobRepository
    storage: Storage
    transport: Transport

    def close(self) -> None:
        """Give back what is held."""
        self.transport.close()
        self.database.close()


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What a worker process needs."""

    settings: Settings
    database: Database
    jobs: JobRepository
    workers: WorkerRepository
    dispatch: DispatchRepository
    transport: Transport
    runner: Runner
    sweeper: Sweeper
    courier: Courier | None
    """None where no callbacks are sent."""
    new_engine: Callable[[], Engine]

    def close(self) -> None:
        """Give back what is held."""
        self.transport.close()
        self.database.close()


def check_presets(settings: Settings) -> None:
    """Raise ConfigurationError for a preset whose variants could not be stored."""
    for name, preset in settings.presets.items():
        check_preset(name, preset)


def check_folders(settings: Settings) -> None:
    """Raise ConfigurationError where a folder that the service writes to cannot be made or written to."""
    for folder in (settings.storage, settings.staging, settings.scratch):
        _make_folder(folder)


def check_file_roots(settings: Settings) -> None:
    """Raise ConfigurationError where `file://` would lead to what the service keeps for itself."""
    own = (settings.storage, settings.staging, settings.scratch, settings.database)
    for root in settings.file_roots:
        for place in own:
            if _overlap(root.resolve(), place.resolve()):
                raise ConfigurationError(
                    f"FILE_ROOTS names {root}: jobs could read and replace what the service keeps in {place}."
                )


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def check_webhook_secret(settings: Settings) -> None:
    """Raise ConfigurationError for one that is set and cannot be signed with."""
    if settings.webhook_secret:
        read_secret(settings.webhook_secret)


def open_database(settings: Settings) -> Database:
    """The database, its tables up to date. Raises ConfigurationError, MissingExtraError, UnavailableError."""
    database = Database.open(settings.database_url or settings.database)
    database.migrate()
    return database


def open_transport(settings: Settings, *, worker_id: str | None = None) -> Transport:
    """What carries the hints; no broker is asked yet. Raises MissingExtraError."""
    if settings.queue_backend == "redis":
        from image_processor.transports.redis_list import RedisTransport  # noqa: PLC0415 - an extra

        return RedisTransport(settings.redis_url, namespace=settings.queue_namespace, worker_id=worker_id)
    if settings.queue_backend == "celery":
        from image_processor.transports.celery_queue import CeleryTransport  # noqa: PLC0415 - an extra

        return CeleryTransport(settings)
    return EmbeddedTransport()


def open_outbound(settings: Settings) -> Outbound:
    """The way out to addresses that strangers name."""
    return Outbound(private_networks=settings.private_networks)


def open_locations(settings: Settings, outbound: Outbound) -> Locations:
    """Where jobs may read from and write to. Raises ConfigurationError for a root that holds our own."""
    check_file_roots(settings)
    return Locations(
        file_roots=settings.file_roots,
        outbound=outbound,
        buckets=_no_bucket,
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
    )


def _no_bucket(name: str) -> Storage:
    raise InvalidRequestError(f"S3 is not set up here, so there is no bucket {name[:80]!r}.")


def build_app(settings: Settings, *, transport: Transport | None = None) -> App:
    """The application behind the fronts."""
    database = open_database(settings)
    jobs = JobRepository(database)
    stage, storage = open_stage(settings), open_storage(settings)
    transport = transport or open_transport(settings)
    outbound = open_outbound(settings)
    locations = open_locations(settings, outbound)
    terms = intake(settings, outbound)
    service = ImageService(
        jobs=jobs,
        image_rows=ImageRepository(database),
        rate_limits=RateLimitRepository(database),
        stage=stage,
        storage=storage,
        transport=transport,
        dispatch=DispatchRepository(database),
        intake=terms,
    )
    submission = JobSubmission(
        check_source=locations.check_source,
        check_destination=locations.check_destination,
        check_callback=terms.check_callback,
        new_staging_name=stage.new_name,
        ttl_seconds=terms.job_ttl_seconds,
        max_retries=terms.max_retries,
    )
    return App(
        settings=settings,
        database=database,
        service=service,
        submission=submission,
        listing=JobListing(database),
        progress=ProgressRepository(database),
        deliveries=DeliveryRepository(database, max_retries=settings.webhook_max_retries),
        statistics=StatisticsRepository(database),
        jobs=jobs,
        storage=storage,
        transport=transport,
    )


def build_worker(
    settings: Settings, *, worker_id: str | None = None, transport: Transport | None = None
) -> WorkerParts:
    """What a worker process needs; its engines are made one a slot."""
    database = open_database(settings)
    transport = transport or open_transport(settings, worker_id=worker_id)
    _make_folder(settings.scratch)
    return WorkerParts(
        settings=settings,
        database=database,
        jobs=JobRepository(database),
        workers=WorkerRepository(database),
        dispatch=DispatchRepository(database),
        transport=transport,
        runner=_runner(settings, database),
        sweeper=Sweeper(_house(settings, database, transport)),
        courier=_courier(settings, database),
        new_engine=lambda: new_engine(settings),
    )


def _runner(settings: Settings, database: Database) -> Runner:
    locations = open_locations(settings, open_outbound(settings))
    jobs = JobRepository(database)
    return Runner(
        jobs=jobs,
        progress=ProgressRepository(database),
        originals=Originals(
            stage=open_stage(settings),
            locations=locations,
            accepts=settings.accepts,
            limits=settings.limits,
            turns=FetchTurns(settings.workers, jobs.is_due_for_others),
        ),
        places=Places(storage=open_storage(settings), locations=locations),
        scratch=settings.scratch,
        limits=settings.limits,
    )


def _house(settings: Settings, database: Database, transport: Transport) -> House:
    storage = open_storage(settings)
    return House(
        jobs=JobRepository(database),
        images=ImageRepository(database),
        recovery=RecoveryRepository(database, policy=RetryPolicy()),
        rate_limits=RateLimitRepository(database),
        dispatch=DispatchRepository(database),
        workers=WorkerRepository(database),
        strays=StrayRepository(database),
        transport=transport,
        stage=open_stage(settings),
        storage=storage,
        scratch=settings.scratch,
        sweeps=(storage.sweep_incoming,),
        lease_seconds=settings.lease_seconds,
        retention_days=settings.retention_days,
        rate_limit_window_seconds=settings.rate_limit_window_minutes * 60,
    )


def _courier(settings: Settings, database: Database) -> Courier | None:
    if not settings.webhook_secret:
        return None
    return Courier(
        deliveries=DeliveryRepository(database, max_retries=settings.webhook_max_retries),
        outlet=open_outbound(settings),
        key=read_secret(settings.webhook_secret),
        urls_of=partial(_urls_of, ImageRepository(database), open_storage(settings)),
        timeout_seconds=settings.webhook_timeout_seconds,
    )


def _urls_of(images: ImageRepository, storage: Storage, image_id: str, user_id: str) -> dict[str, str]:
    image = images.image(image_id, user_id)
    return {} if image is None else variant_urls(image, storage)


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


def intake(settings: Settings, outbound: Outbound) -> Intake:
    """What uploads may be, and how their jobs are to run. Raises ConfigurationError for a bad secret."""
    check_webhook_secret(settings)
    window = settings.rate_limit_window_minutes * 60
    return Intake(
        accepts=settings.accepts,
        limits=settings.limits,
        presets=settings.presets,
        rate_limit=RateLimit(max_uploads=settings.rate_limit_max_uploads, window_seconds=window),
        job_ttl_seconds=settings.job_ttl_hours * HOUR_SECONDS,
        max_retries=settings.max_retries,
        idempotency_seconds=settings.idempotency_hours * HOUR_SECONDS,
        joins_duplicates=settings.join_duplicates,
        check_callback=outbound.check if settings.webhook_secret else _no_callbacks,
    )


def _no_callbacks(_url: str) -> str:
    raise InvalidRequestError("No callbacks are sent here: WEBHOOK_SECRET is not set.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"The folder {folder} cannot be written to.")
