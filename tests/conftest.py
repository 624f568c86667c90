"""Fixtures that every distance of test shares."""

import functools
import os
import signal
import ssl
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import settings

from running_service import Service

if TYPE_CHECKING:
    from s3_server import S3Server
    from valkey_server import ValkeyServer

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


# A busy machine is no fault of the example at hand.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
_new_context = httpx.create_ssl_context


@functools.cache
def _context_of(_places: tuple[str | None, ...]) -> ssl.SSLContext:
    return _new_context()


def _shared_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    """To read the certificates of the world takes 60 ms, which is most of what a short-lived client costs."""
    if verify is True and cert is None and trust_env:
        return _context_of((os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")))
    return _new_context(verify, cert, trust_env)


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", _shared_context)
        yield


def pytest_configure() -> None:
    """A shell starts its background jobs with SIGINT ignored, and what we start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real camera files; the test is skipped where it is absent."""
    if not PHOTOS.is_dir():
        pytest.skip("the folder of camera photos, ../shared/photos, is not here")
    return PHOTOS


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(**options) -> Service:
        service = Service(tmp_path, **options)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def service(start_service) -> Service:
    return start_service()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server of our own; it does not wait for the disk, as no test cuts the power."""
    from postgres_server import PostgresServer  # noqa: PLC0415  tests without it pay nothing

    server = PostgresServer(fsync=False)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres) -> Iterator[str]:
    """An empty database on that server."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ValkeyServer"]:
    """A real server for all tests of this process; one that a test kills starts again with `redis_url`."""
    from valkey_server import valkey_server  # noqa: PLC0415 - most tests need none

    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: "ValkeyServer") -> str:
    """The address of a server that runs and holds nothing."""
    valkey.start()
    valkey.flush()
    return valkey.url


@pytest.fixture
def queue_namespace() -> str:
    """What the keys of one test begin with."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:
    """A real S3 server for all tests of this process; each takes buckets of its own from it."""
    from s3_server import s3_server  # noqa: PLC0415 - most tests need none

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3: "S3Server") -> str:
    """The name of an empty bucket."""
    s3.start()
    return s3.new_bucket()
