"""The ways out that the settings leave open: addresses that strangers name, the places of jobs."""

from image_processor.bootstrap.checks import check_file_roots
from image_processor.bootstrap.storages import open_buckets
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.settings import Settings


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
