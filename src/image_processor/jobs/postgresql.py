"""What is PostgreSQL's own: how we connect, its words, its lock for migrations, its errors in ours."""

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    InvalidRequestError,
    StorageFullError,
    UnavailableError,
)

WORDS = {
    # Of the statement, not of the moment: a clock that stands still can be looked up in an index.
    "<now>": "(extract(epoch from statement_timestamp())::double precision)",
    "<now_iso>": "to_char(statement_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    "<run_seconds>": "extract(epoch from completed_at::timestamptz - started_at::timestamptz)::float8",
    "<event_order>": "event_order",
    "<for_update>": "for update",
    "<skip_locked>": "for update skip locked",
}
POOL_SIZE, POOL_OVERFLOW = 5, 11
"""A server takes 100 connections by default, from all processes together."""
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 30
IDLE_TIMEOUT_SECONDS = 10
"""A process that is frozen in the middle of a transaction lets go of its rows after this."""
MIGRATION_LOCK = 4_921_730_112
MIGRATION_WAIT_SECONDS = 120
_LIVENESS = {
    # The network may swallow a connection without a word: given up after 20 seconds, busy or idle.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
_OURS = {"application_name": "image-processor", "client_encoding": "utf8"}
_BUSY = frozenset({"55P03", "57014"})
"""A lock or a statement took longer than it may."""
_OUTAGES = ("08", "25006", "25P03", "40", "53", "57", "58", "XX")
"""By their beginnings: connection, standby, idle too long, rollback, resources, shutdown, disk, internal."""
_FULL = "53100"
_UNWRITABLE = frozenset({"22021", "22P05"})
_NEVER = ("authentication failed", "does not exist", "no pg_hba.conf entry", "invalid ")
"""The server gives no code to who is not let in. In another language than this it counts as an outage."""


class PostgreSQLServer:
    """A database on a server; writers meet only at the rows that they write."""

    has_one_writer = False

    def __init__(self, url: URL, *, busy_timeout_seconds: float) -> None:
        self.reading: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self.writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}
        self._psycopg = _load_psycopg()
        self.driver_error: type[Exception] = self._psycopg.Error
        self._url = url.set(drivername="postgresql+psycopg")
        self._busy_timeout_seconds = busy_timeout_seconds

    def __str__(self) -> str:
        shown = self._url.set(drivername="postgresql", query={})  # a query may hold a password too
        return shown.render_as_string(hide_password=True)

    def engine(self) -> Engine:
        """The connections to the server, none of them made yet."""
        defaults = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **_LIVENESS, **_OURS}
        engine = create_engine(
            self._url,
            connect_args={name: value for name, value in defaults.items() if name not in self._url.query},
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=self._busy_timeout_seconds,
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        event.listen(engine, "connect", self._configure)
        return engine

    def _configure(self, connection: Any, _record: object) -> None:
        milliseconds = {
            "lock_timeout": self._busy_timeout_seconds * 1000,
            "statement_timeout": STATEMENT_TIMEOUT_SECONDS * 1000,
            "idle_in_transaction_session_timeout": IDLE_TIMEOUT_SECONDS * 1000,
        }
        settings = {name: str(max(1, round(value))) for name, value in milliseconds.items()}
        # Of a cluster's default we cannot be sure: an accepted upload survives a power cut.
        _set(connection, settings | {"synchronous_commit": "on"})

    def prepare(self) -> None:
        """Nothing: the server is there, or it is not."""

    def turn(self) -> AbstractContextManager[None]:
        """Nobody waits for a turn."""
        return nullcontext()

    def begin_migration(self, connection: Connection) -> None:
        """Have all others who migrate wait until this transaction ends; it may take its time."""
        wait = f"{MIGRATION_WAIT_SECONDS}s"
        for setting in (f"lock_timeout = '{wait}'", "statement_timeout = 0"):
            connection.exec_driver_sql(f"set local {setting}")
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({MIGRATION_LOCK})")

    def is_misconfigured(self, error: ImageProcessorError) -> bool:
        """Whether a server that cannot be reached for this error never will be, under this URL."""
        return any(words in error.message for words in _NEVER)

    def findings(self, connection: Connection) -> list[str]:
        """Nothing: the server checks what it reads, and its owner sees to its health."""
        connection.exec_driver_sql("select count(*) from processing_jobs")
        return []

    def translate(self, error: BaseException | None) -> ImageProcessorError:
        """An error of the driver in our words."""
        state = getattr(error, "sqlstate", None)
        return self._without_state(error) if state is None else _with_state(state, _sentence(error))

    def _without_state(self, error: BaseException | None) -> ImageProcessorError:
        """The driver's own errors: what it would not send, and what came of a connection."""
        if isinstance(error, self._psycopg.DataError):
            return InvalidRequestError("A text holds characters that cannot be stored.")
        if isinstance(error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)):
            return UnavailableError(f"The database does not answer: {_sentence(error)}.")
        return ImageProcessorError(f"The database refused a statement: {_sentence(error)}.")


def _with_state(state: str, sentence: str) -> ImageProcessorError:
    if state == _FULL:
        return StorageFullError("The disk of the database is full.", sqlstate=state)
    if state in _BUSY:
        return UnavailableError("The database is busy; try again later.", sqlstate=state)
    if state in _UNWRITABLE:
        return InvalidRequestError("A text holds characters that cannot be stored.", sqlstate=state)
    if state.startswith(_OUTAGES):
        return UnavailableError(f"The database does not answer: {sentence}.", sqlstate=state)
    return ImageProcessorError(f"The database refused a statement: {sentence}.", sqlstate=state)


def _sentence(error: BaseException | None) -> str:
    """What the server says, in one line and without the statement it says it of."""
    told = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return " ".join(str(told).split()).rstrip(".")


def _set(connection: Any, settings: dict[str, str]) -> None:
    connection.autocommit = True  # in a transaction that is undone, so would these be
    for name, value in settings.items():
        connection.execute("select set_config(%s, %s, false)", (name, value))
    connection.autocommit = False


def _load_psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL needs a driver that is not installed: pip install 'image-processor[postgres]'."
        ) from error
