"""The jobs' database, SQLite or PostgreSQL: transactions, migration, errors in our words. No tables here."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from sqlalchemy import Connection, Engine, exc, inspect, make_url, text

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    InvalidRequestError,
    UnavailableError,
)
from image_processor.jobs.postgresql import PostgreSQLServer
from image_processor.jobs.sqlite import SQLiteFile

BUSY_TIMEOUT_SECONDS = 10.0
_REVISIONS = Path(__file__).parent / "migrations" / "versions"
_REVISION_TABLE = "alembic_version"


class Product(Protocol):
    """What a kind of database has of its own; `str` of it says where it is, without a password."""

    reading: Mapping[str, Any]
    """SQLAlchemy's execution options for a transaction that reads one state."""
    writing: Mapping[str, Any]
    driver_error: type[Exception]
    has_one_writer: bool
    """Whether who writes keeps all others from writing."""

    def engine(self) -> Engine:
        """The connections, none of them made yet."""

    def prepare(self) -> None:
        """Make room for it, where there is none; raises OSError."""

    def turn(self) -> AbstractContextManager[None]:
        """A writer's turn, where those of one process have to queue."""

    def begin_migration(self, connection: Connection) -> None:
        """Keep everyone else from migrating until this transaction ends."""

    def is_misconfigured(self, error: ImageProcessorError) -> bool:
        """Whether the database cannot be opened as it is named, so that trying again is in vain."""

    def findings(self, connection: Connection) -> list[str]:
        """What is wrong with what is stored."""

    def translate(self, error: BaseException | None) -> ImageProcessorError:
        """An error of the driver in our words."""


class Database:
    """The jobs' database; any number of threads and processes may use it at once."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._engine = product.engine()
        self._reading = self._engine.execution_options(**product.reading)
        self._writing = self._engine.execution_options(**product.writing)

    @classmethod
    def open(cls, where: Path | str, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> Self:
        """
        The database in this file, made with its folder where there is none, or at this URL.

        `migrate` makes the tables. A URL is `postgresql://user:password@host:port/name` or
        `sqlite:////path/to/file`. A writer waits `busy_timeout_seconds` for another one; then
        UnavailableError is raised. Raises ConfigurationError where the file cannot be opened or cannot be in
        WAL mode, for a URL that names nothing, and where the driver is not installed; UnavailableError where
        a server does not answer.
        """
        database = cls(_product(where, busy_timeout_seconds))
        database._check_that_it_opens()
        return database

    def _check_that_it_opens(self) -> None:
        try:
            self._product.prepare()
            self.ping()
        except (OSError, ImageProcessorError) as error:
            self.close()
            if isinstance(error, ImageProcessorError) and not self._product.is_misconfigured(error):
                raise
            raise ConfigurationError(f"The database {self._product} cannot be opened: {error}") from error

    def __str__(self) -> str:
        return str(self._product)

    @property
    def has_one_writer(self) -> bool:
        """Whether who writes keeps all others from writing, so that it is better to look first."""
        return self._product.has_one_writer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state and never waits for a writer."""
        with self._translated(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A transaction that is durable on disk when it ends. Any exception from the body undoes the whole.

        SQLite has one writer at a time, from its first moment. On PostgreSQL every statement sees what was
        committed before it, and rows are locked as they are written: lock what you read to write by it.
        Raises UnavailableError where a lock is not to be had in time, StorageFullError for a full disk.
        """
        with self._translated(), self._product.turn(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise _private(self._product.translate(error.orig)) from error
        except self._product.driver_error as error:  # raised while a connection is being made
            raise _private(self._product.translate(error)) from error
        except exc.TimeoutError as error:
            raise UnavailableError("The database has no free connection; try again later.") from error
        except UnicodeEncodeError as error:
            raise InvalidRequestError("A text holds characters that cannot be stored.") from error

    def ping(self) -> None:
        """Raise UnavailableError where the database does not answer."""
        with self.read() as connection:
            connection.execute(text("select 1"))

    def damage(self) -> str | None:
        """What is wrong with the file, None where nothing is; reads all of it. A server checks itself."""
        with self.read() as connection:
            return "; ".join(self._product.findings(connection)) or None

    def migrate(self) -> None:
        """
        Bring the tables to the newest form; safe when several processes do so at once.

        Raises ConfigurationError where the tables are newer than this program.
        """
        if self._is_current():
            return  # a worker that is frozen while it writes must not keep others from starting
        from image_processor.jobs.migration import upgrade  # noqa: PLC0415 - most starts migrate nothing

        with self.write() as connection:
            self._product.begin_migration(connection)
            upgrade(connection)

    def _is_current(self) -> bool:
        with self.read() as connection:
            if not inspect(connection).has_table(_REVISION_TABLE):
                return False
            found = connection.execute(text(f"select version_num from {_REVISION_TABLE}"))  # noqa: S608 - ours
            return found.scalars().all() == [newest_revision()]

    def close(self) -> None:
        """Close every connection; the last one to a file folds the write-ahead log into it."""
        self._engine.dispose()


def newest_revision() -> str:
    """The number of the newest migration, as its file's name begins; to ask Alembic is to load it."""
    return max(file.name for file in _REVISIONS.glob("[0-9]*.py")).partition("_")[0]


def _private(error: ImageProcessorError) -> ImageProcessorError:
    error.is_private = not isinstance(error, InvalidRequestError)
    return error


def _product(where: Path | str, busy_timeout_seconds: float) -> Product:
    if isinstance(where, Path):
        return SQLiteFile(where, busy_timeout_seconds=busy_timeout_seconds)
    try:
        # libpq's own form of the name, as hosting services give it out
        url = make_url(where.replace("postgres://", "postgresql://", 1))
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigurationError("The URL of the database cannot be read.") from error
    if url.get_backend_name() == "postgresql":
        return PostgreSQLServer(url, busy_timeout_seconds=busy_timeout_seconds)
    if url.get_backend_name() == "sqlite" and url.database:
        return SQLiteFile(Path(url.database), busy_timeout_seconds=busy_timeout_seconds)
    raise ConfigurationError(f"{url.drivername!r} names no database for the jobs: use postgresql or sqlite.")
