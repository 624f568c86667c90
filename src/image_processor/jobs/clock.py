"""The database's clock, the only one the jobs go by, and statements in the words of either database."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, TextClause, column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from image_processor.jobs import postgresql, sqlite

WORDS = {"sqlite": sqlite.WORDS, "postgresql": postgresql.WORDS}


class Statement(TextClause):
    """A text with words in angle brackets that each database puts its own in place of."""

    inherit_cache = True


@compiles(Statement)
def _compile(statement: Statement, compiler: SQLCompiler, **options: Any) -> str:
    sql = str(compiler.visit_textclause(statement, **options))  # type: ignore[no-untyped-call]
    for word, meaning in WORDS[compiler.dialect.name].items():
        sql = sql.replace(word, meaning)
    return sql


def statement(sql: str) -> Statement:
    """
    `sql` for either database, with these words in angle brackets.

    `<now>` is the clock in seconds since the epoch, one value within a statement; `<now_iso>` the same
    instant as text; `<run_seconds>` how long the last attempt of a completed job took; `<event_order>` the
    column that grows with every event. `<for_update>` and `<skip_locked>` at the end of a select lock its
    rows, the second leaving out those that are locked (SQLite has one lock for all).
    """
    return Statement(sql)


_READ = statement("select <now> as now").columns(column("now"))


def read_clock(connection: Connection) -> float:
    """The database's time, in seconds since the epoch."""
    return float(connection.execute(_READ).scalar_one())


def to_iso(seconds: float) -> str:
    """Seconds since the epoch in the form of the ISO columns: UTC, milliseconds, a trailing Z."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
