"""The database's clock, the only one the jobs go by, and how SQL and Python write its time."""

from datetime import UTC, datetime

from sqlalchemy import Connection, TextClause, text

# unixepoch('subsec') would read better; it needs SQLite 3.42.
NOW = "((julianday('now') - 2440587.5) * 86400.0)"
"""Seconds since the epoch, of millisecond resolution; one value within a statement."""

NOW_ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
"""The same instant as text."""


def statement(sql: str) -> TextClause:
    """`sql` with the database's clock in place of `<now>` (epoch seconds) and `<now_iso>` (text)."""
    return text(sql.replace("<now>", NOW).replace("<now_iso>", NOW_ISO))


_READ = statement("select <now>")


def read_clock(connection: Connection) -> float:
    """The database's time, in seconds since the epoch."""
    return float(connection.execute(_READ).scalar_one())


def to_iso(seconds: float) -> str:
    """Seconds since the epoch in the form of the ISO columns: UTC, milliseconds, a trailing Z."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
