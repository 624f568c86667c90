"""Replays at the end of the rate limit, at the same time: no more jobs begin anew than uploads are left."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_processor.errors import RateLimitError, StorageError
from image_processor.jobs import RateLimit, Status

LIMIT = RateLimit(max_uploads=3, window_seconds=10 * 365 * 86_400)
JOBS = 8

pytestmark = pytest.mark.slow


def dead_letter(room) -> str:
    claim = room.claim(max_retries=0)
    room.jobs.fail(claim, StorageError("It failed."))
    return claim.job_id


def replay(room, job_id: str) -> bool:
    return room.jobs.replay(job_id, user_id="ada", rate_limit=LIMIT)


def used(room) -> int:
    return LIMIT.max_uploads - room.rate_limits.quota("ada", LIMIT).remaining


def test_no_more_begin_than_the_limit_allows(room):
    job_ids = [dead_letter(room) for _ in range(JOBS)]
    barrier = threading.Barrier(JOBS)

    def begin(job_id: str) -> bool:
        barrier.wait()
        try:
            return replay(room, job_id)
        except RateLimitError:
            return False

    with ThreadPoolExecutor(JOBS) as threads:
        assert sum(threads.map(begin, job_ids)) == LIMIT.max_uploads
    states = [room.jobs.job(job_id, "ada").status for job_id in job_ids]
    assert (states.count(Status.PENDING), states.count(Status.FAILED)) == (3, JOBS - 3)


def test_what_does_not_begin_takes_nothing(room):
    assert not replay(room, "no-such-job")
    job_id = dead_letter(room)
    assert replay(room, job_id)
    assert not replay(room, job_id)
    assert used(room) == 1
