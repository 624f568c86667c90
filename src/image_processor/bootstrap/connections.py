"""What the settings connect to beside storages: the database, the broker, the places of jobs."""

from image_processor.bootstrap.checks import check_file_roots
from image_processor.bootstrap.storages import open_buckets
from image_processor.jobs.database import Database
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.settings import Settings
from image_processor.transports.base import Transport
from image_processor.transports.embedded import EmbeddedTransport


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
        buckets=open_buckets(settings),
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
    )
