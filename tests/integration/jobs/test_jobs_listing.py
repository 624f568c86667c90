"""A user's jobs page by page: the order, the filters, and a walk while jobs come in."""

import base64
import itertools
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from image_processor.errors import InvalidRequestError
from image_processor.jobs import Database
from image_processor.jobs.listing import Filter, JobListing, page_statement, read_cursor
from image_processor.jobs.states import Status
from image_processor.jobs.values import Priority, Receipt

START = datetime(2026, 11, 8, 14, tzinfo=UTC)
WAITING = (Status.PENDING, Status.RETRYING)


@pytest.fixture
def listing(room):
    return JobListing(room.database)


def at(seconds):
    return START + timedelta(seconds=seconds)


def submit(room, seconds, **fields) -> Receipt:
    """A job that was created so long after the start."""
    receipt = room.submit(**fields)
    created_at = at(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    room.execute(
        "update processing_jobs set created_at = :created_at where job_id = :job_id",
        created_at=created_at,
        job_id=receipt.job_id,
    )
    return receipt


def ids(page):
    return [job.job_id for job in page.jobs]


def walk(listing, *, limit, wanted=None, between=lambda: None):
    """Every page's ids, with something done between the pages."""
    cursor, pages = None, []
    while True:
        page = listing.page("ada", wanted or Filter(), limit=limit, cursor=cursor)
        pages.append(ids(page))
        cursor = page.next_cursor
        if cursor is None:
            return pages
        between()


def test_the_newest_come_first(room, listing):
    submitted = [submit(room, second).job_id for second in (2, 0, 3, 1)]
    page = listing.page("ada", limit=10)
    assert ids(page) == [submitted[number] for number in (2, 0, 3, 1)]
    assert page.next_cursor is None
    assert page.jobs[0] == room.jobs.job(submitted[2], "ada")


def test_nobody_sees_the_jobs_of_others(room, listing):
    submit(room, 0, user_id="eve")
    mine = submit(room, 1).job_id
    assert ids(listing.page("ada", limit=10)) == [mine]
    assert ids(listing.page("", limit=10)) == []


def test_a_walk_sees_each_job_once_while_others_come_in(room, listing):
    moments = [0, 1, 1, 1, 1, 1, 2]  # several of one millisecond, as they come in bursts
    there = {submit(room, second).job_id for second in moments}
    later = itertools.count(10)
    pages = walk(listing, limit=3, between=lambda: submit(room, next(later)))
    assert [len(page) for page in pages] == [3, 3, 1]
    seen = list(itertools.chain(*pages))
    assert len(seen) == len(set(seen))
    assert set(seen) == there


def test_a_walk_goes_on_behind_a_job_that_is_deleted_meanwhile(room, listing):
    receipts = [submit(room, second) for second in range(4)]
    first = listing.page("ada", limit=2)
    room.images.delete(receipts[2].image_id, "ada")
    rest = listing.page("ada", limit=2, cursor=first.next_cursor)
    assert ids(rest) == [receipts[1].job_id, receipts[0].job_id]
    assert rest.next_cursor is None


def test_pages_that_are_just_full_end_the_walk(room, listing):
    for second in range(4):
        submit(room, second)
    assert [len(page) for page in walk(listing, limit=2)] == [2, 2]
    assert [len(page) for page in walk(listing, limit=4)] == [4]


def test_jobs_of_deleted_images_are_gone(room, listing):
    receipt = submit(room, 0)
    room.images.delete(receipt.image_id, "ada")
    assert listing.page("ada", limit=10).jobs == []


def test_each_filter_alone_and_all_together(room, listing):
    waiting = submit(room, 0, priority=Priority.HIGH).job_id
    running = room.claim().job_id
    cancelled = submit(room, 2, priority=Priority.LOW).job_id
    room.jobs.cancel(cancelled, "ada")

    def found(**wanted):
        return set(ids(listing.page("ada", Filter(**wanted), limit=10)))

    assert found(statuses=WAITING) == {waiting}
    assert found(statuses=[Status.PROCESSING]) == {running}
    assert found(statuses=[Status.FAILED]) == {cancelled}
    assert found(statuses=[Status.COMPLETED]) == set()
    assert found(priority=Priority.HIGH) == {waiting}
    assert found(priority=Priority.NORMAL) == {running}
    assert found(priority=Priority.HIGH, statuses=[Status.FAILED]) == set()
    everything = {"statuses": [Status.FAILED], "priority": Priority.LOW, "created_after": at(2)}
    assert found(**everything, created_before=at(3)) == {cancelled}


def test_windows_of_time_join_without_a_gap(room, listing):
    jobs = [submit(room, second).job_id for second in range(3)]

    def window(begin, end):
        return ids(listing.page("ada", Filter(created_after=begin, created_before=end), limit=10))

    assert window(at(0), at(1)) == [jobs[0]]
    assert window(at(1), at(3)) == [jobs[2], jobs[1]]
    assert window(None, at(0)) == []
    naive = at(2).replace(tzinfo=None)
    assert window(naive, None) == [jobs[2]]
    elsewhere = at(2).astimezone(timezone(timedelta(hours=5)))
    assert window(elsewhere, None) == [jobs[2]]


def test_filters_hold_over_the_pages_of_a_walk(room, listing):
    wanted = {submit(room, second, priority=Priority(second % 2)).job_id for second in range(6)}
    low = Filter(priority=Priority.LOW)
    assert walk(listing, limit=2, wanted=low) == [[]]
    normal = Filter(priority=Priority.NORMAL)
    pages = walk(listing, limit=2, wanted=normal)
    assert [len(page) for page in pages] == [2, 1]
    assert set(itertools.chain(*pages)) < wanted


def test_a_time_beyond_the_calendar_is_refused():
    beyond = datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))
    with pytest.raises(InvalidRequestError, match="calendar"):
        Filter(created_after=beyond).parameters()


def coded(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "!", "é", "\x00", "A" * 201, "A" * 1_000_000),
        coded("null"),
        coded("[]"),
        coded("[1, 2]"),
        coded('["2026-11-08T14:00:00.000Z"]'),
        coded('["2026-11-08T14:00:00.000Z", "x"]'),
        coded('["2026-11-08T14:00:00.000Z", null]'),
        coded('["now", "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"]'),
        coded("[" * 140),
    ],
)
def test_a_damaged_cursor_is_refused(cursor):
    with pytest.raises(InvalidRequestError, match="cursor"):
        read_cursor(cursor)


@pytest.mark.parametrize(
    "parameters", [[], ["last_id"], ["created_after", "created_before"], ["priority", "last_id"]]
)
def test_a_page_is_read_in_order_from_the_index(database_path, parameters):
    """Whatever a user has, a page costs what is on it: nothing is sorted."""
    explain = text("explain query plan " + page_statement(parameters).text)
    names = [*parameters, "user_id", "limit", "last_at"]
    with closing(Database.open(database_path)) as database, database.read() as connection:
        plan = [row.detail for row in connection.execute(explain, dict.fromkeys(names, "1"))]
    assert any("jobs_by_user (user_id=?" in step for step in plan)
    assert not [step for step in plan if "B-TREE" in step or step.startswith("SCAN")]
