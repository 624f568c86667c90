"""What the fronts need, wired."""

from dataclasses import dataclass

from image_processor.bootstrap.checks import check_webhook_secret
from image_processor.bootstrap.connections import open_database, open_transport
from image_processor.bootstrap.outside import open_locations, open_outbound
from image_processor.bootstrap.storages import (
    open_cdn,
    open_incoming,
    open_stage,
    open_storage,
    open_upload_addresses,
)
from image_processor.direct_uploads import DirectUploads
from image_processor.errors import InvalidRequestError
from image_processor.job_submission import JobSubmission
from image_processor.jobs.database import Database
from image_processor.jobs.deliveries import DeliveryRepository
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.listing import JobListing
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.statistics import StatisticsRepository
from image_processor.jobs.uploads import UploadRepository
from image_processor.jobs.values import RateLimit
from image_processor.outbound import Outbound
from image_processor.service import ImageService, Intake, Submission
from image_processor.settings import Settings
from image_processor.storage.base import Storage, UploadAddresses
from image_processor.storage.signed_addresses import SignedAddresses
from image_processor.transports.base import Transport

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
    direct_uploads: DirectUploads | None
    """None where there are none."""
    signed_addresses: SignedAddresses | None
    """None where direct uploads go past this service."""

    def close(self) -> None:
        """Give back what is held."""
        self.transport.close()
        self.database.close()


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
        cdn=open_cdn(settings),
    )
    addresses = open_upload_addresses(settings)
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
        direct_uploads=_direct_uploads(settings, database, service, addresses),
        signed_addresses=addresses if isinstance(addresses, SignedAddresses) else None,
    )


def _direct_uploads(
    settings: Settings, database: Database, service: ImageService, addresses: UploadAddresses
) -> DirectUploads | None:
    if not settings.max_open_uploads:
        return None
    return DirectUploads(
        uploads=UploadRepository(database),
        incoming=open_incoming(settings),
        addresses=addresses,
        service=service,
        new_submission=Submission,
        upload_url_seconds=settings.upload_url_seconds,
        max_open=settings.max_open_uploads,
    )


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
