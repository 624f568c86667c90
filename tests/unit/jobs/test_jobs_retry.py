import pytest

from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineError,
    EngineTimeoutError,
    ImageProcessorError,
    NotFoundError,
    RateLimitError,
    Retry,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from image_processor.jobs.retry import RELEASE, Decision, History, RetryPolicy, snooze
from image_processor.jobs.states import Reason, Status

RETRYING, FAILED = Status.RETRYING, Status.FAILED


def history(attempt=1, *, crashes=0, timeouts=0, max_retries=3):
    return History(attempt=attempt, max_retries=max_retries, crash_count=crashes, timeout_count=timeouts)


TABLE = [
    # what never gets better
    (CorruptImageError, history(1), Decision(status=FAILED, reason=Reason.REJECTED)),
    (NotFoundError, history(4), Decision(status=FAILED, reason=Reason.REJECTED)),
    # four attempts, after 1, 5 and 25 seconds
    (StorageError, history(1), Decision(status=RETRYING, delay_seconds=1)),
    (StorageError, history(2), Decision(status=RETRYING, delay_seconds=5)),
    (StorageError, history(3), Decision(status=RETRYING, delay_seconds=25)),
    (StorageError, history(4), Decision(status=FAILED, reason=Reason.EXHAUSTED)),
    (EngineError, history(1), Decision(status=RETRYING, delay_seconds=1)),
    (ImageProcessorError, history(5), Decision(status=FAILED, reason=Reason.EXHAUSTED)),
    (StorageError, history(1, max_retries=0), Decision(status=FAILED, reason=Reason.EXHAUSTED)),
    (StorageError, history(6, max_retries=9), Decision(status=RETRYING, delay_seconds=25)),
    # an outage costs no attempt, not even the last one
    (UnavailableError, history(4), snooze(5)),
    (StorageFullError, history(1), snooze(60)),
    # the second timeout is the last
    (EngineTimeoutError, history(1), Decision(status=RETRYING, delay_seconds=1, counts_timeout=True)),
    (
        EngineTimeoutError,
        history(2, timeouts=1),
        Decision(status=FAILED, reason=Reason.EXHAUSTED, counts_timeout=True),
    ),
    (EngineTimeoutError, history(4), Decision(status=FAILED, reason=Reason.EXHAUSTED, counts_timeout=True)),
    # the third crash is poison; before that, crashes use up attempts as well
    (EngineCrashedError, history(1), Decision(status=RETRYING, delay_seconds=1, counts_crash=True)),
    (
        EngineCrashedError,
        history(2, crashes=1),
        Decision(status=RETRYING, delay_seconds=5, counts_crash=True),
    ),
    (
        EngineCrashedError,
        history(3, crashes=2),
        Decision(status=FAILED, reason=Reason.POISON, counts_crash=True),
    ),
    (
        EngineCrashedError,
        history(4, crashes=2),
        Decision(status=FAILED, reason=Reason.POISON, counts_crash=True),
    ),
    (
        EngineCrashedError,
        history(4, crashes=1),
        Decision(status=FAILED, reason=Reason.EXHAUSTED, counts_crash=True),
    ),
]


@pytest.mark.parametrize(("error", "past", "decision"), TABLE)
def test_decision(error, past, decision):
    assert RetryPolicy().decide(error("It did not work."), past) == decision


def test_every_class_of_error_has_a_decision():
    class OddError(ImageProcessorError):
        pass

    for retry in Retry:
        OddError.retry = retry
        assert RetryPolicy().decide(OddError("odd"), history()).status in {RETRYING, FAILED}


def test_the_error_says_how_long_to_wait_and_jitter_spreads_it():
    class BreakerOpenError(UnavailableError):
        retry_after_seconds = 42

    policy = RetryPolicy(snooze_jitter_seconds=10.0)
    assert policy.decide(BreakerOpenError("open"), history(), jitter=0.5) == snooze(47)


def test_a_snooze_waits_by_default_where_the_error_does_not_say():
    class ThrottledError(ImageProcessorError):
        retry = Retry.UNAVAILABLE

    assert RetryPolicy().decide(ThrottledError("slow down"), history()).delay_seconds == 5


def test_a_rate_limit_is_a_plain_failure_to_a_job():
    error = RateLimitError("enough", retry_after_seconds=3)
    assert RetryPolicy().decide(error, history()).status is RETRYING


def test_what_is_not_the_jobs_fault_is_refunded():
    assert snooze(1).refunds_attempt
    assert RELEASE.refunds_attempt
    assert RELEASE.status is Status.PENDING
    assert RELEASE.delay_seconds == 0
