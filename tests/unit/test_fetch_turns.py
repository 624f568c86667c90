"""Slow sources of one user leave slots to the others."""

from contextlib import ExitStack

import pytest

from image_processor.errors import UnavailableError
from image_processor.originals import FetchTurns


def fetching(turns, *users):
    """A stack in which these users fetch."""
    stack = ExitStack()
    for user in users:
        stack.enter_context(turns.turn(user))
    return stack


def test_half_of_the_slots_are_the_most_for_one_user_while_others_wait():
    turns = FetchTurns(4, lambda _user: True)
    with fetching(turns, "mallory", "mallory"):
        with pytest.raises(UnavailableError):
            turns.turn("mallory").__enter__()
        with fetching(turns, "ada", "bob"):
            pass
    with fetching(turns, "mallory"):
        pass


def test_who_is_alone_may_have_all_of_them():
    asked = []
    turns = FetchTurns(4, lambda user: bool(asked.append(user)))
    with fetching(turns, *["ada"] * 4):
        assert asked == ["ada", "ada"], "the database is asked only beyond the half"


def test_one_slot_is_one_turn():
    turns = FetchTurns(1, lambda _user: True)
    for _ in range(3):
        with fetching(turns, "ada"):
            pass


def test_a_fetch_that_fails_gives_its_turn_back():
    turns = FetchTurns(2, lambda _user: True)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turns.turn("ada"):
            _ = 1 / 0
