import datetime as dt
import threading

import pytest

from image_processor.errors import ImageProcessorError, RateLimitError
from image_processor.jobs import RateLimit
from integration.jobs.job_samples import an_upload

THREE = RateLimit(max_uploads=3, window_seconds=3600)
DECADE = 10 * 365 * 86_400
"""A window that no test run crosses."""


def submit(room, rate_limit, **fields):
    return room.jobs.submit(an_upload(**fields), rate_limit)


def test_quota_counts_down_to_a_refusal_that_says_when_to_come_back(room):
    assert [submit(room, THREE).quota.remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(RateLimitError) as refused:
        submit(room, THREE)
    error = refused.value
    assert error.details["limit"] == 3
    assert error.details["remaining"] == 0
    assert 1 <= error.retry_after_seconds <= 3600
    reset = dt.datetime.fromisoformat(error.details["reset_at"])
    assert reset.minute == reset.second == reset.microsecond == 0
    assert dt.timedelta(0) < reset - dt.datetime.now(dt.UTC) <= dt.timedelta(hours=1)
    assert room.counts()["processing_jobs"] == 3


def test_asking_takes_nothing(room):
    for _ in range(5):
        assert room.rate_limits.quota("ada", THREE).remaining == 3
        assert room.rate_limits.check("ada", THREE).remaining == 3
    submit(room, THREE)
    quota = room.rate_limits.quota("ada", THREE)
    assert (quota.limit, quota.remaining) == (3, 2)
    assert room.rate_limits.quota("bob", THREE).remaining == 3


def test_check_refuses_before_the_body_is_read(room):
    for _ in range(3):
        submit(room, THREE)
    with pytest.raises(RateLimitError, match="All 3 uploads"):
        room.rate_limits.check("ada", THREE)
    room.rate_limits.check("bob", THREE)


def test_a_submit_that_fails_gives_its_slot_back(room):
    receipt = submit(room, THREE)
    with pytest.raises(ImageProcessorError):
        submit(room, THREE, job_id=receipt.job_id)
    assert room.rate_limits.quota("ada", THREE).remaining == 2


def test_an_upload_that_joins_a_live_twin_is_an_upload_all_the_same(room):
    assert [submit(room, THREE, dedupe_key="k").quota.remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(RateLimitError):
        submit(room, THREE, dedupe_key="k")


def test_the_next_window_begins_afresh(room):
    for _ in range(3):
        submit(room, THREE)
    room.execute("update upload_rate_limits set window_start = '2024-11-08T14:00:00.000Z'")
    assert submit(room, THREE).quota.remaining == 2


def test_zero_is_no_limit(room):
    unlimited = RateLimit(max_uploads=0)
    for _ in range(5):
        assert submit(room, unlimited).quota is None
    assert room.rate_limits.check("ada", unlimited) is None
    assert room.counts()["upload_rate_limits"] == 0


@pytest.mark.parametrize("wrong", [{"max_uploads": -1}, {"window_seconds": 0}])
def test_a_limit_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="greater than or equal"):
        RateLimit(**wrong)


def test_a_lowered_limit_holds_at_once(room):
    for _ in range(3):
        submit(room, THREE)
    lowered = RateLimit(max_uploads=1, window_seconds=3600)
    assert room.rate_limits.quota("ada", lowered).remaining == 0
    with pytest.raises(RateLimitError):
        submit(room, lowered)


def test_old_windows_are_forgotten(room):
    submit(room, THREE)
    room.execute("insert into upload_rate_limits values ('bob', '2024-11-08T14:00:00.000Z', 7)")
    assert room.rate_limits.prune(older_than_seconds=7200) == 1
    assert room.rate_limits.quota("ada", THREE).remaining == 2


def test_of_twenty_threads_exactly_as_many_pass_as_may(room):
    rate_limit = RateLimit(max_uploads=17, window_seconds=DECADE)
    start = threading.Barrier(20)
    outcomes = []

    def upload_three():
        start.wait()
        for _ in range(3):
            try:
                outcomes.append(submit(room, rate_limit).quota.remaining)
            except RateLimitError:
                outcomes.append("refused")

    threads = [threading.Thread(target=upload_three) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 60 - 17
    assert sorted(o for o in outcomes if o != "refused") == list(range(17))
    assert room.counts()["processing_jobs"] == 17
