"""When progress is noted, and that it can do no harm. The clock is the test's."""

from itertools import pairwise

import pytest

from image_processor.errors import UnavailableError
from image_processor.progress import MIN_POINTS, STAGED, STEPS, Progress, Step
from image_processor.telemetry import subscribe


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def progress(clock, notes):
    return Progress(lambda percent, step: notes.append((percent, step)), clock=clock)


def test_the_shares_are_percent():
    assert sum(STEPS.values()) == 100
    assert Step.FETCH not in STAGED


def test_an_attempt_of_less_than_half_a_second_is_not_told_of(progress, clock, notes):
    for step in STAGED:
        clock.now += 0.16
        progress.step(step)
        progress.advance(1.0)
    assert notes == []


def test_each_step_begins_where_the_one_before_ends(clock, notes):
    fetched = Progress(lambda percent, step: notes.append((percent, step)), has_fetch=True, clock=clock)
    for step in STEPS:
        clock.now += 0.5
        fetched.step(step)
    assert notes == [(20, "render"), (80, "store"), (95, "commit")]


def test_without_a_fetch_the_others_are_the_whole(progress, clock, notes):
    for share in (0.5, 1.0):
        clock.now += 0.5
        progress.advance(share)
    assert notes == [(37, "render"), (75, "render")]


def test_a_fetch_that_was_not_announced_changes_nothing(progress, clock, notes):
    clock.now += 1
    progress.step("fetch")
    progress.advance(0.5)
    assert notes == [(37, "render")]


def test_half_a_second_alone_is_not_enough(progress, clock, notes):
    for share in range(100):
        clock.now += 0.5
        progress.advance(share / 100)
    percents = [percent for percent, _ in notes]
    assert len(notes) == 75 // MIN_POINTS - 1
    assert all(later - earlier >= MIN_POINTS for earlier, later in pairwise(percents))


def test_five_points_alone_are_not_enough(progress, clock, notes):
    clock.now += 1
    for share in range(100):
        clock.now += 0.01
        progress.advance(share / 100)
    assert len(notes) == 2


def test_it_never_falls_and_never_says_hundred(progress, clock, notes):
    for share in (0.9, 0.2, -3.0, 7.0):
        clock.now += 1
        progress.advance(share)
    progress.step("commit")
    clock.now += 1
    progress.advance(1.0)
    assert notes == [(67, "render"), (75, "render"), (99, "commit")]


def test_a_failed_note_is_told_and_forgotten(clock):
    told = []
    unsubscribe = subscribe(lambda event, fields: told.append((event, fields["error"])))

    def fail(_percent, _step):
        raise UnavailableError("The database is busy.")

    progress = Progress(fail, clock=clock)
    clock.now += 1
    progress.advance(0.5)
    unsubscribe()
    assert told == [("job.progress.failed", "UnavailableError: The database is busy.")]


def test_slow_notes_come_less_often(clock, notes):
    def note(percent, step):
        notes.append((percent, step))
        clock.now += 3.0

    progress = Progress(note, clock=clock)
    for share in range(61):
        clock.now += 1.0
        progress.advance(share / 60)
    assert len(notes) == 1
