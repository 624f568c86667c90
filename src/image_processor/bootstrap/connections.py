"""What every process connects to, as the settings have it: the database and the broker."""

from image_processor.jobs.database import Database
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
