"""How lists are walked over HTTP: the cursor in a query, and the address of the page behind this one."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query

from image_processor.jobs.listing import MAX_CURSOR_LENGTH

CURSOR_DESCRIPTION = "`next_cursor` of the page before; none for the first page."
Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR_LENGTH, description=CURSOR_DESCRIPTION)]


def next_link(path: str, query: Mapping[str, object], next_cursor: str | None) -> dict[str, str]:
    """The `Link` header of a page; nothing for the last. `query`: what was asked for, without its cursor."""
    if next_cursor is None:
        return {}
    given = {name: value for name, value in query.items() if value is not None}
    return {"Link": f'<{path}?{urlencode({**given, "cursor": next_cursor})}>; rel="next"'}
