"""Calls that nobody waits for longer than they like."""

import threading

import pytest

from image_processor.errors import UnavailableError
from image_processor.transports.bounded import Bounded

SOON_SECONDS = 10.0
SHORT_SECONDS = 0.05


@pytest.fixture
def new_bounded():
    opened = []

    def new(**options):
        opened.append(
            Bounded("test", **{"seconds": SOON_SECONDS, "cool_off_seconds": SOON_SECONDS} | options)
        )
        return opened[-1]

    yield new
    for bounded in opened:
        bounded.close()


def fail():
    raise OSError("no route")


def test_gives_what_the_call_gives(new_bounded):
    assert new_bounded().call(lambda: 7) == 7


def test_names_the_cause_of_a_failure(new_bounded):
    with pytest.raises(UnavailableError) as raised:
        new_bounded().call(fail)
    assert str(raised.value.__cause__) == "no route"


def test_cools_off_after_a_failure_and_then_tries_again(new_bounded):
    bounded = new_bounded(cool_off_seconds=SHORT_SECONDS)
    calls = []
    with pytest.raises(UnavailableError):
        bounded.call(fail)
    with pytest.raises(UnavailableError):
        bounded.call(lambda: calls.append("too soon"))
    threading.Event().wait(2 * SHORT_SECONDS)
    bounded.call(lambda: calls.append("in time"))
    bounded.call(lambda: calls.append("again"))
    assert calls == ["in time", "again"]


def test_after_a_failure_only_one_is_tried_at_a_time(new_bounded):
    bounded = new_bounded(cool_off_seconds=0)
    entered, leave = threading.Event(), threading.Event()
    with pytest.raises(UnavailableError):
        bounded.call(fail)

    def trial():
        entered.set()
        return leave.wait(SOON_SECONDS)

    thread = threading.Thread(target=bounded.call, args=(trial,))
    thread.start()
    assert entered.wait(SOON_SECONDS)
    with pytest.raises(UnavailableError) as raised:
        bounded.call(lambda: None)
    assert raised.value.__cause__ is None
    leave.set()
    thread.join()
    bounded.call(lambda: None)


def test_what_comes_too_late_is_undone_and_nothing_else_is_tried_until_then(new_bounded):
    bounded = new_bounded(seconds=SHORT_SECONDS, cool_off_seconds=0)
    leave, undone = threading.Event(), threading.Event()
    late = []

    def undo(value):
        late.append(value)
        undone.set()

    def slow():
        leave.wait(SOON_SECONDS)
        return "connection"

    with pytest.raises(UnavailableError):
        bounded.call(slow, undo=undo)
    with pytest.raises(UnavailableError) as raised:
        bounded.call(lambda: None)
    assert raised.value.__cause__ is None
    leave.set()
    assert undone.wait(SOON_SECONDS)
    assert late == ["connection"]
    assert bounded.call(lambda: 7, seconds=SOON_SECONDS) == 7


def test_a_call_that_was_given_up_before_it_began_is_never_made(new_bounded):
    bounded = new_bounded()
    leave, made = threading.Event(), []
    entered = threading.Event()

    def slow():
        entered.set()
        leave.wait(SOON_SECONDS)

    thread = threading.Thread(target=bounded.call, args=(slow,))
    thread.start()
    assert entered.wait(SOON_SECONDS)
    with pytest.raises(UnavailableError):
        bounded.call(lambda: made.append(1), seconds=SHORT_SECONDS)
    leave.set()
    thread.join()
    bounded.close()
    assert made == []


def test_is_not_used_after_the_close(new_bounded):
    bounded = new_bounded()
    bounded.call(lambda: None)
    bounded.close()
    with pytest.raises(UnavailableError):
        bounded.call(lambda: None)
