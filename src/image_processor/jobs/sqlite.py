"""What is SQLite's own: one file in WAL mode, its words, its one write lock, its errors in ours."""

import importlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    StorageFullError,
    UnavailableError,
)

WORDS = {
    # unixepoch('subsec') would read better; it needs SQLite 3.42.
    "<now>": "((julianday('now') - 2440587.5) * 86400.0)",
    "<now_iso>": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "<run_seconds>": "((julianday(completed_at) - julianday(started_at)) * 86400.0)",
    "<event_order>": "rowid",
    "<for_update>": "",
    "<skip_locked>": "",
}
MAX_CONNECTIONS = 64
"""Of a process, at once."""
_BUSY = (5, 6)
_FULL = 13
_OUR_FAULT = (1, 19, 20, 21, 25)
"""Error, constraint, mismatch, misuse, range: the statement is wrong, not the database."""
_BACKPORTED_IN = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}


def _load_sqlite() -> ModuleType:
    """The SQLite of the pysqlite3 wheel, or the interpreter's own where there is no wheel (not Linux)."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return importlib.import_module("sqlite3.dbapi2")


driver = _load_sqlite()


def sqlite_version() -> tuple[int, int, int]:
    """The version of the SQLite library in use."""
    major, minor, patch = driver.sqlite_version_info
    return major, minor, patch


def has_wal_reset_bug(version: tuple[int, int, int] | None = None) -> bool:
    """Whether this SQLite can corrupt a WAL database that several processes write (before 3.51.3)."""
    version = version or sqlite_version()
    backport = _BACKPORTED_IN.get(version[:2])
    return version < (3, 51, 3) and (backport is None or version < backport)


class SQLiteFile:
    """A database in a file; any number of readers, one writer at a time."""

    has_one_writer = True

    def __init__(self, path: Path, *, busy_timeout_seconds: float) -> None:
        self.reading: Mapping[str, Any] = {"begin": "begin"}
        self.writing: Mapping[str, Any] = {"begin": "begin immediate"}
        self.driver_error: type[Exception] = driver.Error
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        # SQLite lets waiting writers poll; threads of one process can queue for their turn.
        self._writer = threading.Lock()
        self._turn_ends_at = 0.0
        """Of the one who has the lock: until when the write lock of the file may be waited for."""

    def __str__(self) -> str:
        return str(self._path)

    def engine(self) -> Engine:
        """The connections to the file, none of them made yet."""
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            module=driver,
            poolclass=QueuePool,
            connect_args={"timeout": self._busy_timeout_seconds},
            # A connection that is opened for one statement costs more than the statement: all are kept, and
            # those used last are used next, so that the others stay small.
            pool_size=MAX_CONNECTIONS,
            max_overflow=0,
            pool_use_lifo=True,
            pool_timeout=self._busy_timeout_seconds,
        )
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", self._begin)
        return engine

    def _begin(self, connection: Connection) -> None:
        begin = connection.get_execution_options()["begin"]
        # Past SQLAlchemy, which makes a result of each of these: they have none, and precede every statement.
        driven: Any = connection.connection.dbapi_connection
        if begin != self.writing["begin"]:
            driven.execute(begin)
            return
        # Who has waited for the others of this process has so much less time for those of other ones.
        _set_patience(driven, max(0.001, self._turn_ends_at - time.monotonic()))
        try:
            driven.execute(begin)
        finally:
            _set_patience(driven, self._busy_timeout_seconds)

    def prepare(self) -> None:
        """Make the folder, where there is none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """This process's turn to write; UnavailableError where it does not come in time."""
        ends_at = time.monotonic() + self._busy_timeout_seconds
        if not self._writer.acquire(timeout=self._busy_timeout_seconds):
            raise UnavailableError("The database is busy; try again later.")
        self._turn_ends_at = ends_at
        try:
            yield
        finally:
            self._writer.release()

    def begin_migration(self, connection: Connection) -> None:
        """Nothing: who writes has the only lock there is."""

    def is_misconfigured(self, error: ImageProcessorError) -> bool:
        """Whether a file that cannot be opened for this error never will be, as it is."""
        return error.details.get("sqlite_code") not in _BUSY

    def findings(self, connection: Connection) -> list[str]:
        """What is wrong with the file; reads all of it."""
        findings = connection.exec_driver_sql("pragma integrity_check(3)").scalars().all()
        return [] if findings == ["ok"] else [str(finding) for finding in findings]

    def translate(self, error: BaseException | None) -> ImageProcessorError:
        """An error of the driver in our words."""
        # The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
        code = getattr(error, "sqlite_errorcode", _OUR_FAULT[0]) & 0xFF
        if code in _BUSY:
            return UnavailableError("The database is busy; try again later.", sqlite_code=code)
        if code == _FULL:
            return StorageFullError("The disk of the database is full.", sqlite_code=code)
        if code in _OUR_FAULT:
            return ImageProcessorError(f"The database refused a statement: {error}.", sqlite_code=code)
        return UnavailableError(f"The database does not answer: {error}.", sqlite_code=code)


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transaction by itself: `_begin` does
    journal_mode = connection.execute("pragma journal_mode = wal").fetchone()[0]
    if journal_mode != "wal":
        raise ConfigurationError(f"SQLite keeps its journal in mode {journal_mode!r} here; it must be 'wal'.")
    connection.execute("pragma synchronous = full")  # an accepted upload survives a power cut
    connection.execute("pragma foreign_keys = on")


def _set_patience(driven: Any, seconds: float) -> None:
    driven.execute(f"pragma busy_timeout = {max(1, round(seconds * 1000))}")
