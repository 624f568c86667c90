"""Lists that are fetched page by page, by the cursor that each page names for the next."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from image_processor.client.answers import FailedPage, ImagePage, Job, JobPage, read_json, read_json_list
from image_processor.client.calls import Caller, Whole
from image_processor.client.plans import Give, Plan, Request
from image_processor.client.refusals import UnexpectedAnswerError

_NEXT = re.compile(r'<([^<>]*)>[^,<]*;\s*rel="?next"?')


@dataclass(frozen=True)
class Page:
    """Some values, and the cursor of the next page if there is one."""

    values: Iterable[Any]
    next_cursor: str | None


def images_page(answer: Whole) -> Page:
    """Of `/api/v1/images`."""
    page = read_json(ImagePage, answer.body)
    return Page(page.images, page.next_cursor)


def jobs_page(answer: Whole) -> Page:
    """Of `/jobs`."""
    page = read_json(JobPage, answer.body)
    return Page(page.jobs, page.next_cursor)


def all_failed_page(answer: Whole) -> Page:
    """Of `/api/v1/health/failed`."""
    page = read_json(FailedPage, answer.body)
    return Page(page.failed_jobs, page.next_cursor)


def failed_page(answer: Whole) -> Page:
    """Of `/jobs/failed`, which names the next page in a header."""
    link = _NEXT.search(answer.headers.get("link", ""))
    cursors = parse_qs(urlsplit(link[1]).query).get("cursor") if link else None
    return Page(read_json_list(Job, answer.body), cursors[0] if cursors else None)


def pages(
    caller: Caller, path: str, query: Mapping[str, str], page_of: Callable[[Whole], Page]
) -> Plan[None]:
    """The values of all pages, one after the other."""
    seen: set[str] = set()
    cursor: str | None = None
    while True:
        here = query if cursor is None else {**query, "cursor": cursor}
        page = page_of((yield from caller.call(Request("GET", path, params=here))))
        for value in page.values:
            yield Give(value)
        cursor = page.next_cursor
        if cursor is None:
            return
        if cursor in seen:
            raise UnexpectedAnswerError("The pages of the service's list do not end.")
        seen.add(cursor)
