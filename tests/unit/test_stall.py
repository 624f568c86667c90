"""When a silent transport counts as stalled; the clock is moved by hand, the database is asked in words."""

from types import SimpleNamespace

import pytest

from image_processor.telemetry import subscribe
from image_processor.worker import stall
from image_processor.worker.stall import DUE_SECONDS, LOOK_SECONDS, StallDetector

STALL_SECONDS = 60.0


class Jobs:
    """The dispatch repository, as far as a detector knows it."""

    def __init__(self):
        self.is_any_due = False
        self.asked = []

    def any_due(self, older_than_seconds):
        self.asked.append(older_than_seconds)
        return self.is_any_due


class Case:
    """A detector with its clock, its jobs and what it told."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        clocks = SimpleNamespace(monotonic=lambda: self.now, time=lambda: 1e9 + self.now)
        monkeypatch.setattr(stall, "time", clocks)
        self.jobs = Jobs()
        self.told = []
        self.detector = self.new()

    def new(self, stall_seconds=STALL_SECONDS):
        return StallDetector(self.jobs, transport="redis", stall_seconds=stall_seconds)


@pytest.fixture
def case(monkeypatch):
    case = Case(monkeypatch)
    unsubscribe = subscribe(lambda event, _fields: case.told.append(event))
    yield case
    unsubscribe()


def test_silence_is_no_news_before_its_time(case):
    case.jobs.is_any_due = True
    case.now += STALL_SECONDS - 0.1
    assert not case.detector.may_claim_directly()
    assert case.jobs.asked == []


def test_silence_is_no_news_while_nothing_is_due(case):
    case.now += STALL_SECONDS
    assert not case.detector.may_claim_directly()
    assert case.jobs.asked == [DUE_SECONDS]


def test_a_hint_starts_the_time_anew(case):
    case.jobs.is_any_due = True
    case.now += STALL_SECONDS - 1
    case.detector.heard()
    case.now += STALL_SECONDS - 1
    assert not case.detector.may_claim_directly()


def test_of_several_slots_one_looks_and_not_too_often(case):
    case.now += STALL_SECONDS
    for _ in range(4):
        case.detector.may_claim_directly()
    assert len(case.jobs.asked) == 1
    case.now += LOOK_SECONDS
    case.detector.may_claim_directly()
    assert len(case.jobs.asked) == 2


def test_a_job_that_had_to_be_found_makes_it_a_stall_and_every_slot_may_look(case):
    case.jobs.is_any_due = True
    case.now += STALL_SECONDS
    assert case.detector.may_claim_directly()
    assert case.detector.stalled_since is None, "somebody else may have been faster"
    case.detector.claimed_directly()
    since = 1e9 + case.now
    case.now += 7
    case.detector.claimed_directly()
    assert case.detector.stalled_since == since
    assert all(case.detector.may_claim_directly() for _ in range(4))
    assert len(case.jobs.asked) == 1, "whoever may look claims, and need not ask before"
    assert case.told == ["transport.stalled"]


def test_the_next_hint_ends_it(case):
    case.jobs.is_any_due = True
    case.now += STALL_SECONDS
    case.detector.claimed_directly()
    case.detector.heard()
    case.detector.heard()
    assert case.detector.stalled_since is None
    assert not case.detector.may_claim_directly()
    assert case.told == ["transport.stalled", "transport.recovered"]


def test_a_hint_that_came_meanwhile_prevents_it(case):
    case.jobs.is_any_due = True
    case.now += STALL_SECONDS
    assert case.detector.may_claim_directly()
    case.detector.heard()
    case.detector.claimed_directly()
    assert not case.detector.is_stalled
    assert case.told == []


def test_a_short_patience_shortens_everything(case):
    hasty = case.new(0.2)
    case.now += 0.2
    hasty.may_claim_directly()
    case.now += 0.2
    hasty.may_claim_directly()
    assert case.jobs.asked == [0.2, 0.2]
