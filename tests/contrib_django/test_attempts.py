"""Attempts: our failures are tried again and counted, a picture's own fault is neither."""

import pytest
from django.core.cache import caches

from image_processor.contrib.django.attempts import Attempts, attempts
from image_processor.contrib.django.breaker import CacheBreaker
from image_processor.contrib.django.conf import Conf
from image_processor.errors import CorruptImageError, EngineError, UnavailableError


class Call:
    """Raises what it is given, one after the other; then gives 1."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return 1


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def tried(waits) -> Attempts:
    breaker = CacheBreaker(caches["default"], failures=2, rest_seconds=60)
    return Attempts([1, 2, 4], breaker, waits.append)


def engine_errors(count: int) -> list[EngineError]:
    return [EngineError(f"Number {number}.") for number in range(1, count + 1)]


def test_what_holds_at_once_waits_for_nothing(tried, waits):
    assert tried.run(Call()) == 1
    assert waits == []


def test_each_wait_comes_before_another_try(tried, waits):
    assert tried.run(Call(*engine_errors(3))) == 1
    assert waits == [1, 2, 4]


def test_the_last_error_is_raised_as_it_is(tried, waits):
    with pytest.raises(EngineError, match=r"Number 4\."):
        tried.run(Call(*engine_errors(4)))
    assert waits == [1, 2, 4]


def test_only_calls_that_failed_in_all_their_tries_count(tried):
    for _ in range(5):
        tried.run(Call(*engine_errors(3)))

    for _ in range(2):
        with pytest.raises(EngineError):
            tried.run(Call(*engine_errors(4)))

    call = Call()
    with pytest.raises(UnavailableError):
        tried.run(call)
    assert call.count == 0


def test_a_success_in_between_begins_the_count_anew(tried):
    for _ in range(3):
        with pytest.raises(EngineError):
            tried.run(Call(*engine_errors(4)))
        assert tried.run(Call()) == 1


@pytest.mark.parametrize("error", [CorruptImageError("Damaged."), KeyError("a fault of ours"), SystemExit()])
def test_what_says_nothing_about_the_engine_is_raised_at_once_and_not_counted(tried, waits, error):
    for _ in range(5):
        call = Call(error)
        with pytest.raises(type(error)):
            tried.run(call)
        assert call.count == 1
    assert waits == []
    assert tried.run(Call()) == 1


def test_without_waits_there_is_one_try():
    call = Call(*engine_errors(2))

    with pytest.raises(EngineError):
        attempts(Conf(retry_seconds=())).run(call)

    assert call.count == 1


def test_the_project_says_how_often_and_how_long(settings, waits):
    settings.IMAGE_PROCESSOR = {"RETRY_SECONDS": [0.5], "BREAKER_FAILURES": 1}

    with pytest.raises(EngineError):
        attempts(sleep=waits.append).run(Call(*engine_errors(2)))

    assert waits == [0.5]
    with pytest.raises(UnavailableError):
        attempts().run(Call())
