"""What a worker process needs, wired."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from image_processor.bootstrap.checks import make_folder
from image_processor.bootstrap.connections import open_database, open_transport
from image_processor.bootstrap.outside import open_locations, open_outbound
from image_processor.bootstrap.storages import (
    open_cdn,
    open_incoming,
    open_own_buckets,
    open_stage,
    open_storage,
)
from image_processor.direct_uploads import sweep
from image_processor.engine.base import Engine
from image_processor.engine.isolate import IsolatedEngine
from image_processor.jobs.database import Database
from image_processor.jobs.deliveries import DeliveryRepository
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.strays import StrayRepository
from image_processor.jobs.uploads import UploadRepository
from image_processor.jobs.workers import WorkerRepository
from image_processor.maintenance import Chore, House, Sweeper
from image_processor.originals import FetchTurns, Originals
from image_processor.placement import variant_urls
from image_processor.runner import Places, Runner
from image_processor.settings import MIB, Settings
from image_processor.storage.base import Storage
from image_processor.storage.local import LocalStorage
from image_processor.transports.base import Transport
from image_processor.webhooks import Courier, read_secret

PUTS_AT_ONCE = 4
MINUTE = 60.0
HOUR_SECONDS = 3600.0
DAY_SECONDS = 86_400.0


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
    check_room: Callable[[], None] = lambda: None
    """Raises StorageFullError while this machine has no room for originals."""

    def close(self) -> None:
        """Give back what is held."""
        self.transport.close()
        self.database.close()


def build_worker(
    settings: Settings, *, worker_id: str | None = None, transport: Transport | None = None
) -> WorkerParts:
    """What a worker process needs; its engines are made one a slot."""
    database = open_database(settings)
    transport = transport or open_transport(settings, worker_id=worker_id)
    make_folder(settings.scratch)
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
        check_room=open_stage(settings).check_fetching,
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
        places=Places(
            storage=open_storage(settings),
            locations=locations,
            puts_at_once=PUTS_AT_ONCE if settings.storage_backend == "s3" else 1,
        ),
        scratch=settings.scratch,
        limits=settings.limits,
    )


def _house(settings: Settings, database: Database, transport: Transport) -> House:
    storage, incoming = open_storage(settings), open_incoming(settings)
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
        cdn=open_cdn(settings),
        sweeps=_sweeps(storage, incoming),
        chores=(_sweep_uploads(database, incoming), *_sweep_parts(settings)),
        lease_seconds=settings.lease_seconds,
        retention_days=settings.retention_days,
        rate_limit_window_seconds=settings.rate_limit_window_minutes * 60,
    )


def _sweep_uploads(database: Database, incoming: Storage) -> Chore:
    run = partial(sweep, UploadRepository(database), incoming)
    return Chore(name="sweep_uploads", every_seconds=MINUTE, run=run)


def _sweep_parts(settings: Settings) -> Iterator[Chore]:
    """Uploads in parts that a killed process left; nobody's takes a day."""
    if settings.storage_backend == "s3":
        for number, bucket in enumerate(open_own_buckets(settings)):
            run = partial(bucket.sweep_incoming, DAY_SECONDS)
            yield Chore(name=f"sweep_parts_{number}", every_seconds=HOUR_SECONDS, run=run)


def _sweeps(*storages: Storage) -> tuple[Callable[[float], int], ...]:
    return tuple(storage.sweep_incoming for storage in storages if isinstance(storage, LocalStorage))


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
