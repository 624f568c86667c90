"""One SQLite file in WAL mode: connections, transactions, migration, errors in our words. No tables here."""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, exc, text

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    InvalidRequestError,
    StorageFullError,
    UnavailableError,
)

MIGRATIONS = "image_processor.jobs:migrations"
BUSY_TIMEOUT_SECONDS = 10.0
_BUSY = (5, 6)
_FULL = 13
_OUR_FAULT = (1, 19, 20, 21, 25)
"""Error, constraint, mismatch, misuse, range: the statement is wrong, not the database."""
_BACKPORTED_IN = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
_migration_turn = threading.Lock()  # Alembic keeps its context in a global


def _load_sqlite() -> ModuleType:
    """The SQLite of the pysqlite3 wheel, or the interpreter's own where there is no wheel (not Linux)."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return importlib.import_module("sqlite3.dbapi2")


_sqlite = _load_sqlite()


def sqlite_version() -> tuple[int, int, int]:
    """The version of the SQLite library in use."""
    major, minor, patch = _sqlite.sqlite_version_info
    return major, minor, patch


def has_wal_reset_bug(version: tuple[int, int, int] | None = None) -> bool:
    """Whether this SQLite can corrupt a WAL database that several processes write (before 3.51.3)."""
    version = version or sqlite_version()
    backport = _BACKPORTED_IN.get(version[:2])
    return version < (3, 51, 3) and (backport is None or version < backport)


class Database:
    """The jobs' database; any number of threads and processes may use it at once."""

    def __init__(self, engine: Engine, *, busy_timeout_seconds: float) -> None:
        self._engine = engine
        self._writing = engine.execution_options(begin="begin immediate")
        self._busy_timeout_seconds = busy_timeout_seconds
        # SQLite lets waiting writers poll; threads of one process can queue for their turn.
        self._writer = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> Self:
        """
        The database in this file, made with its folder where there is none; `migrate` makes the tables.

        A writer waits `busy_timeout_seconds` for another one; then UnavailableError is raised.
        Raises ConfigurationError where the file cannot be opened or cannot be in WAL mode.
        """
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            module=_sqlite,
            poolclass=QueuePool,
            connect_args={"timeout": busy_timeout_seconds},
            pool_size=16,
            max_overflow=48,
            pool_timeout=busy_timeout_seconds,
        )
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        database = cls(engine, busy_timeout_seconds=busy_timeout_seconds)
        database._check_that_it_opens(path)
        return database

    def _check_that_it_opens(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.ping()
        except (OSError, ImageProcessorError) as error:
            self.close()
            if isinstance(error, ImageProcessorError) and error.details.get("sqlite_code") in _BUSY:
                raise
            raise ConfigurationError(f"The database {path} cannot be opened: {error}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state and never waits for a writer."""
        with _translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A transaction that holds the write lock from its first moment; durable on disk when it ends.

        Raises UnavailableError where the lock is not to be had in time, StorageFullError for a full disk.
        Any exception from the body undoes the whole.
        """
        with _translated(), self._turn(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=self._busy_timeout_seconds):
            raise UnavailableError("The database is busy; try again later.")
        try:
            yield
        finally:
            self._writer.release()

    def ping(self) -> None:
        """Raise UnavailableError where the database does not answer."""
        with self.read() as connection:
            connection.execute(text("select 1"))

    def damage(self) -> str | None:
        """What is wrong with the file, None where nothing is; reads all of it."""
        with self.read() as connection:
            findings = connection.exec_driver_sql("pragma integrity_check(3)").scalars().all()
        return None if findings == ["ok"] else "; ".join(findings)

    def migrate(self) -> None:
        """
        Bring the tables to the newest form; safe when several processes do so at once.

        Raises ConfigurationError where the tables are newer than this program.
        """
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        config.set_main_option("path_separator", "os")
        if self._is_current(config):
            return  # a worker that is frozen while it writes must not keep others from starting
        with _migration_turn, self.write() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ConfigurationError(f"The database cannot be migrated: {error}") from error

    def _is_current(self, config: Config) -> bool:
        heads = ScriptDirectory.from_config(config).get_heads()
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_heads() == tuple(heads)

    def close(self) -> None:
        """Close every connection; the last process to do so folds the write-ahead log into the file."""
        self._engine.dispose()


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transaction by itself: `_begin` does
    journal_mode = connection.execute("pragma journal_mode = wal").fetchone()[0]
    if journal_mode != "wal":
        raise ConfigurationError(f"SQLite keeps its journal in mode {journal_mode!r} here; it must be 'wal'.")
    connection.execute("pragma synchronous = full")  # an accepted upload survives a power cut
    connection.execute("pragma foreign_keys = on")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "begin"))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise _translate(error.orig) from error
    except _sqlite.Error as error:  # raised while a connection is being made
        raise _translate(error) from error
    except exc.TimeoutError as error:
        raise UnavailableError("The database has no free connection; try again later.") from error
    except UnicodeEncodeError as error:
        raise InvalidRequestError("A text holds characters that cannot be stored.") from error


def _translate(error: BaseException | None) -> ImageProcessorError:
    # The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", _OUR_FAULT[0]) & 0xFF
    if code in _BUSY:
        return UnavailableError("The database is busy; try again later.", sqlite_code=code)
    if code == _FULL:
        return StorageFullError("The disk of the database is full.", sqlite_code=code)
    if code in _OUR_FAULT:
        return ImageProcessorError(f"The database refused a statement: {error}.", sqlite_code=code)
    return UnavailableError(f"The database does not answer: {error}.", sqlite_code=code)
