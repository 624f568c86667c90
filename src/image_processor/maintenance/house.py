"""What the sweeper keeps in order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from image_processor.cdn import Cdn, NoCdn
from image_processor.intake.stage import Stage
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.strays import StrayRepository
from image_processor.jobs.workers import WorkerRepository
from image_processor.storage.base import Storage
from image_processor.transports.base import Transport

MIN_WINDOW = 200


@dataclass(frozen=True, kw_only=True)
class Chore:
    """Something else that is to be done from time to time, and may be slow."""

    name: str
    """As events tell it: `sweeper.NAME`."""
    every_seconds: float
    run: Callable[[], int]
    """Gives how much there was to do."""


@dataclass(frozen=True, kw_only=True)
class House:
    """What the sweeper keeps in order, and how long it leaves things lie."""

    jobs: JobRepository
    images: ImageRepository
    recovery: RecoveryRepository
    rate_limits: RateLimitRepository
    dispatch: DispatchRepository
    workers: WorkerRepository
    transport: Transport
    stage: Stage
    storage: Storage
    scratch: Path
    sweeps: tuple[Callable[[float], int], ...]
    """Further places where killed processes leave things: each removes what is older than so many seconds."""
    lease_seconds: float
    retention_days: float
    rate_limit_window_seconds: float
    strays: StrayRepository | None = None
    """None where the storage is not looked through: listing it may be slow, or cost money."""
    cdn: Cdn = field(default_factory=NoCdn)
    chores: tuple[Chore, ...] = ()
    min_window: int = MIN_WINDOW
    """So many hints may wait at a broker, or four for each slot where that is more."""
