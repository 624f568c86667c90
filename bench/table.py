"""Tables on the terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

MOST = 110
"""Columns of the terminal that a title may take."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The first column names the row, the others hold figures."""
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, min_width=min(MOST, len(title) + 1))
    for at, column in enumerate(columns):
        drawn.add_column(column, justify="right" if at else "left", no_wrap=not at)
    for row in rows:
        drawn.add_row(*row)
    return drawn
