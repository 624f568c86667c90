"""The whole database as one file: taken while it is in use, looked into, put in the place of another."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from image_processor.errors import ConfigurationError, UnavailableError
from image_processor.jobs import sqlite
from image_processor.jobs.database import Database

PROBE_SECONDS = 0.5
_VERSIONS = "alembic_version"


def can_be_taken(database: Database) -> bool:
    """Whether the database is a file; a server is dumped with its own tools."""
    with database.read() as connection:
        return connection.dialect.name == "sqlite"


def row_counts(database: Database) -> dict[str, int]:
    """The number of rows of each table, by its name."""
    with database.read() as connection:
        quoted = connection.dialect.identifier_preparer.quote
        names = sorted(set(inspect(connection).get_table_names()) - {_VERSIONS})
        sql = "select count(*) from {}"  # names of our own tables, quoted
        return {
            name: int(connection.exec_driver_sql(sql.format(quoted(name))).scalar_one()) for name in names
        }


def take(database: Database, target: Path, hold: Callable[[], None]) -> None:
    """
    Copy an SQLite database, as it is at one moment, into a new file; it may be in use.

    `hold` is called at that moment, while nobody else can write: what it secures is what the copy knows.
    Raises UnavailableError where the write lock is not to be had in time, or the copy cannot be written.
    """
    with database.read() as reading:
        with database.write():
            # Any statement makes the state that is read from now on that of this moment.
            reading.exec_driver_sql(f"select * from {_VERSIONS}")  # noqa: S608
            hold()
        driver_connection: Any = reading.connection.driver_connection
        try:
            with closing(sqlite.driver.connect(str(target), isolation_level=None)) as copy:
                driver_connection.backup(copy)
                copy.execute("pragma journal_mode = delete")  # one file, without a log beside it
        except sqlite.driver.Error as error:
            raise UnavailableError(f"The database cannot be copied: {error}.") from error


def check(path: Path) -> None:
    """
    Make sure that this file is a whole database of ours, and bring its tables to the newest form.

    Raises ConfigurationError where it is damaged, or newer than this program.
    """
    with closing(Database.open(path)) as database:
        if damage := database.damage():
            raise ConfigurationError(f"The database in the backup is damaged: {damage}.")
        database.migrate()


def fold(path: Path) -> None:
    """
    Make this SQLite file whole by itself, without the log beside it.

    Raises UnavailableError where a process has it open: a service that runs, above all.
    """
    try:
        with closing(
            sqlite.driver.connect(str(path), isolation_level=None, timeout=PROBE_SECONDS)
        ) as connection:
            # Only the last one who has the file open can take it out of WAL mode.
            mode = connection.execute("pragma journal_mode = delete").fetchone()[0]
    except sqlite.driver.Error as error:
        raise UnavailableError(
            "The database is in use: stop the service, and all its workers, first."
        ) from error
    if mode != "delete":
        raise UnavailableError("The database is in use: stop the service, and all its workers, first.")
