"""The breaker: what counts, who is let through and when, on a clock that the tests move."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_processor.errors import (
    BucketMissingError,
    InvalidKeyError,
    MissingExtraError,
    NotFoundError,
    StorageClockError,
    StorageCredentialsError,
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
    StorageFullError,
    StorageReadOnlyError,
    StorageThrottledError,
    StorageTimeoutError,
)
from image_processor.storage.breaker import Breaker, BreakerState
from image_processor.telemetry import subscribe

PATIENCE_SECONDS = 30
REFUSAL = "The storage failed several times in a row and is left alone for now."


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("storage", clock=clock)


@pytest.fixture
def heard():
    told = []
    unsubscribe = subscribe(lambda event, fields: told.append((event, fields)))
    yield told
    unsubscribe()


def fail(error):
    raise error


def end_with(breaker, error, times=1):
    for _ in range(times):
        with pytest.raises(type(error)) as caught:
            breaker.call(fail, error)
        assert caught.value is error, "what the work raises arrives as it is"


def refusal(breaker):
    """What a call gets that is not let through."""
    reached = []
    with pytest.raises(StorageDownError, match=REFUSAL) as caught:
        breaker.call(reached.append, "the place")
    assert reached == []
    return caught.value


def down():
    return StorageDownError("The storage cannot be reached.")


def test_a_call_gives_what_the_work_gives(breaker):
    assert breaker.call(divmod, 7, 2) == (3, 1)
    assert breaker.call(sorted, [1, 2], reverse=True) == [2, 1]


@pytest.mark.parametrize(
    "error",
    [
        down(),
        StorageTimeoutError("The storage did not answer in time."),
        StorageThrottledError("The storage asks for fewer requests."),
        StorageDamageError("The storage sent other bytes than were stored."),
    ],
    ids=lambda error: error.code,
)
def test_five_outages_in_a_row_open_it(breaker, heard, error):
    end_with(breaker, error, times=4)
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 4)
    end_with(breaker, error)
    assert breaker.state is BreakerState.OPEN
    assert heard == [("breaker.opened", {"name": "storage"})]
    assert refusal(breaker).retry_after_seconds == 60


def test_a_success_begins_the_count_anew(breaker):
    end_with(breaker, down(), times=4)
    breaker.call(int)
    end_with(breaker, down(), times=4)
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 4)


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("There is no such object."),
        InvalidKeyError("That is not a key."),
        StorageDeniedError("The storage refuses us access."),
        StorageCredentialsError("The storage does not accept our credentials."),
        StorageClockError("The clocks differ."),
        BucketMissingError("The bucket does not exist."),
        StorageFullError("The storage is full."),
        StorageReadOnlyError("The storage is read-only."),
        ZeroDivisionError(),
        KeyboardInterrupt(),
        SystemExit(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_outage_neither_counts_nor_hides_one(breaker, error):
    end_with(breaker, down(), times=4)
    end_with(breaker, error, times=4)
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 4)
    end_with(breaker, down())
    assert breaker.state is BreakerState.OPEN


def test_it_stays_open_for_its_time_and_says_how_long_that_is(breaker, clock, heard):
    end_with(breaker, down(), times=5)
    waits = []
    for seconds in (0, 30.5, 29.4, 0.09):
        clock.now += seconds
        waits.append(refusal(breaker).retry_after_seconds)
    assert waits == [60, 30, 1, 1]
    clock.now += 0.02
    assert breaker.call(int) == 0
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)
    assert [event for event, _ in heard] == ["breaker.opened", "breaker.half_opened", "breaker.closed"]


def test_a_failing_trial_opens_it_anew_for_the_whole_time(breaker, clock):
    end_with(breaker, down(), times=5)
    clock.now += 60
    end_with(breaker, down())
    assert breaker.state is BreakerState.OPEN
    clock.now += 59
    assert refusal(breaker).retry_after_seconds == 1
    clock.now += 1
    assert breaker.call(int) == 0


def test_a_trial_that_is_answered_closes_it_whatever_the_answer(breaker, clock):
    end_with(breaker, down(), times=5)
    clock.now += 60
    end_with(breaker, NotFoundError("There is no such object."))
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_trial_that_is_given_up_decides_nothing_and_leaves_its_turn(breaker, clock, error):
    end_with(breaker, down(), times=5)
    clock.now += 60
    end_with(breaker, error)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.call(int) == 0
    assert breaker.state is BreakerState.CLOSED


def test_a_trial_that_never_ends_does_not_shut_the_place_for_ever(breaker, clock):
    end_with(breaker, down(), times=5)
    clock.now += 60
    with breaker.passage():
        clock.now += 59
        refusal(breaker)
        clock.now += 1
        breaker.call(int)
    assert breaker.state is BreakerState.CLOSED


class Inside:
    """Calls that are inside the guarded work, in threads, until they may leave it."""

    def __init__(self, threads):
        self.pool = ThreadPoolExecutor(threads)
        self.all_inside = threading.Barrier(threads + 1)
        self.may_leave = threading.Event()

    def work(self, error=None):
        self.all_inside.wait(PATIENCE_SECONDS)
        assert self.may_leave.wait(PATIENCE_SECONDS)
        if error is not None:
            raise error


def test_calls_go_side_by_side(breaker):
    """Four that wait for each other inside the work: with a lock round it they would wait for ever."""
    inside = Inside(4)
    with inside.pool as pool:
        calls = [pool.submit(breaker.call, inside.work) for _ in range(4)]
        inside.all_inside.wait(PATIENCE_SECONDS)
        assert breaker.call(int) == 0
        inside.may_leave.set()
    assert [call.result() for call in calls] == [None] * 4


def test_half_open_one_of_five_is_let_through(breaker, clock):
    end_with(breaker, down(), times=5)
    clock.now += 60
    inside = Inside(1)
    start = threading.Barrier(5)
    refused = threading.Semaphore(0)

    def call():
        start.wait(PATIENCE_SECONDS)
        try:
            breaker.call(inside.work)
        except StorageDownError as error:
            refused.release()
            return error.retry_after_seconds
        return "through"

    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(call) for _ in range(5)]
        inside.all_inside.wait(PATIENCE_SECONDS)
        for _ in range(4):
            assert refused.acquire(timeout=PATIENCE_SECONDS)
        assert breaker.state is BreakerState.HALF_OPEN
        inside.may_leave.set()
    assert sorted(map(str, (call.result() for call in calls))) == ["1", "1", "1", "1", "through"]
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("error", [None, down()])
def test_the_end_of_a_call_from_before_says_nothing_of_now(breaker, clock, error):
    """Neither may close an open one, open a half-open one, nor count in the next closed one."""
    inside = Inside(1)
    with inside.pool as pool:
        late = pool.submit(breaker.call, inside.work, error)
        inside.all_inside.wait(PATIENCE_SECONDS)
        end_with(breaker, down(), times=5)
        clock.now += 60
        with breaker.passage():
            inside.may_leave.set()
            assert late.exception(PATIENCE_SECONDS) is error
            assert breaker.state is BreakerState.HALF_OPEN
            refusal(breaker)
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)


def test_what_counts_can_be_said(clock):
    strict = Breaker(
        "service",
        fail_max=3,
        reset_seconds=10,
        counts=lambda error: isinstance(error, ConnectionError),
        clock=clock,
    )
    end_with(strict, down(), times=9)
    end_with(strict, ConnectionResetError(), times=3)
    assert refusal(strict).retry_after_seconds == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_what_is_no_exception_never_counts_whatever_was_said(clock, error):
    strict = Breaker("service", fail_max=3, counts=lambda _error: True, clock=clock)
    end_with(strict, error, times=9)
    assert (strict.state, strict.failures) == (BreakerState.CLOSED, 0)


def test_work_that_awaits_is_guarded_as_a_block(breaker):
    async def failing():
        with breaker.passage():
            await asyncio.sleep(0)
            raise down()

    for _ in range(5):
        with pytest.raises(StorageDownError, match="cannot be reached"):
            asyncio.run(failing())
    refusal(breaker)
    with pytest.raises(TypeError, match="passage"):
        breaker.call(failing)


def test_who_hears_of_a_change_may_ask_the_breaker(breaker):
    seen = []
    unsubscribe = subscribe(lambda _event, _fields: seen.append(breaker.state))
    try:
        end_with(breaker, down(), times=5)
    finally:
        unsubscribe()
    assert seen == [BreakerState.OPEN]


def test_without_its_extra_it_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "pybreaker", None)
    with pytest.raises(MissingExtraError, match=r"pip install image-processor\[s3\]\."):
        Breaker("storage")
