"""What every transport must do, as executable tests that need nothing but plain asserts."""
# ruff: noqa: D102 - a test's name is its docstring

import threading
import time
import uuid
from collections.abc import Callable

from image_processor.transports.base import Hint, Transport

PUBLISH_SECONDS = 0.3
"""No publish takes longer."""
SOON_SECONDS = 10.0
"""A hint that arrives at all arrives long before that, on a busy machine too."""
SHORT_SECONDS = 0.05
HIGH, NORMAL, LOW = range(3)
HELD_UP = 3
"""So many of many may be late where the machine itself is."""
MANY = 1500
"""More than a transport may choose to keep."""


class TransportContract:
    """
    Subclass it in a test module and give it a fixture `transport`, an empty transport for each test.

    Without pytest, call each method with an empty transport.
    """

    keeps_priorities = False
    """Whether it gives the best priority first, and the oldest first within one."""
    keeps_unacknowledged = False
    """Whether a hint that was taken can be put back until it is acknowledged; then give `survivor_of`."""

    def survivor_of(self, transport: Transport) -> Transport:
        """Another worker's transport on the same broker; whoever asks closes it."""
        raise NotImplementedError

    def test_carries_an_id(self, transport: Transport) -> None:
        job_id = str(uuid.uuid4())
        assert transport.publish(job_id, NORMAL)
        assert _received(transport) == job_id

    def test_carries_each_id_once(self, transport: Transport) -> None:
        published = _publish(transport, 20)
        assert sorted(_received(transport) for _ in published) == sorted(published)
        assert transport.receive(SHORT_SECONDS) is None

    def test_gives_none_when_there_was_none_within_the_time(self, transport: Transport) -> None:
        started = time.monotonic()
        assert transport.receive(SHORT_SECONDS) is None
        assert SHORT_SECONDS <= time.monotonic() - started < SOON_SECONDS

    def test_looks_even_where_it_may_not_wait(self, transport: Transport) -> None:
        assert transport.receive(0) is None

    def test_wakes_one_who_waits(self, transport: Transport) -> None:
        received: list[Hint | None] = []
        waiter = _thread(lambda: received.append(transport.receive(2 * SOON_SECONDS)))
        transport.publish("job-1", NORMAL)
        waiter.join(SOON_SECONDS)
        assert [hint and hint.job_id for hint in received] == ["job-1"]

    def test_two_who_wait_never_get_the_same(self, transport: Transport) -> None:
        published = _publish(transport, 50)
        received: list[str] = []
        ends_at = time.monotonic() + SOON_SECONDS

        def receive_all() -> None:
            while len(received) < len(published) and time.monotonic() < ends_at:
                hint = transport.receive(SHORT_SECONDS)
                if hint is not None:
                    received.append(hint.job_id)
                    hint.acknowledge()

        for waiter in [_thread(receive_all) for _ in range(4)]:
            waiter.join()
        assert sorted(received) == sorted(published)
        assert transport.receive(SHORT_SECONDS) is None

    def test_counts_the_hints_that_wait(self, transport: Transport) -> None:
        assert transport.depth() == 0
        _publish(transport, 3)
        assert transport.depth() == 3
        _received(transport)
        assert transport.depth() == 2

    def test_takes_every_priority(self, transport: Transport) -> None:
        published = [f"job-{number}-{level}" for number in range(2) for level in (LOW, NORMAL, HIGH)]
        for job_id in published:
            transport.publish(job_id, int(job_id[-1]))
        received = [_received(transport) for _ in published]
        by_priority = sorted(published, key=lambda job_id: job_id[-1])
        assert (received if self.keeps_priorities else sorted(received, key=by_priority.index)) == by_priority

    def test_publishing_neither_raises_nor_waits_however_much_is_published(
        self, transport: Transport
    ) -> None:
        late = 0
        for number in range(MANY):
            started = time.monotonic()
            transport.publish(f"job-{number}", NORMAL)
            late += time.monotonic() - started > PUBLISH_SECONDS
        assert late <= HELD_UP
        assert 0 < transport.depth() <= MANY

    def test_acknowledging_never_raises(self, transport: Transport) -> None:
        _publish(transport, 2)
        first, second = (_hint(transport) for _ in range(2))
        for acknowledge in (first.acknowledge, first.acknowledge, second.acknowledge):
            acknowledge()
        assert transport.depth() == 0
        transport.close()
        first.acknowledge()

    def test_puts_back_what_a_dead_worker_had_not_acknowledged(self, transport: Transport) -> None:
        if not self.keeps_unacknowledged:
            _publish(transport, 1)
            _hint(transport)
            assert transport.reclaim(()) == 0
            assert transport.receive(SHORT_SECONDS) is None
            return
        done, running, waiting = _publish(transport, 3)
        hints = {hint.job_id: hint for hint in (_hint(transport), _hint(transport))}
        hints[done].acknowledge()
        survivor = self.survivor_of(transport)
        try:
            assert survivor.reclaim(()) == 1
            assert survivor.reclaim(()) == 0
            assert {_received(survivor), _received(survivor)} == {running, waiting}
            assert survivor.receive(SHORT_SECONDS) is None
        finally:
            survivor.close()

    def test_leaves_the_hints_of_the_one_who_asks(self, transport: Transport) -> None:
        _publish(transport, 1)
        _hint(transport)
        assert transport.reclaim(()) == 0
        assert transport.depth() == 0

    def test_a_close_wakes_who_waits(self, transport: Transport) -> None:
        received: list[Hint | None] = []
        waiter = _thread(lambda: received.append(transport.receive(4 * SOON_SECONDS)))
        transport.close()
        waiter.join(SOON_SECONDS)
        assert received == [None]

    def test_what_comes_after_the_close_neither_raises_nor_waits(self, transport: Transport) -> None:
        transport.close()
        started = time.monotonic()
        transport.publish("job-1", NORMAL)
        assert transport.receive(SOON_SECONDS) is None
        transport.close()
        assert time.monotonic() - started < SOON_SECONDS

    def test_the_epoch_is_one_name_for_one_life(self, transport: Transport) -> None:
        epoch = transport.epoch()
        assert epoch
        _publish(transport, 3)
        transport.receive(SOON_SECONDS)
        assert transport.epoch() == epoch


def _publish(transport: Transport, count: int) -> list[str]:
    job_ids = [str(uuid.uuid4()) for _ in range(count)]
    for job_id in job_ids:
        assert transport.publish(job_id, NORMAL)
    return job_ids


def _hint(transport: Transport) -> Hint:
    hint = transport.receive(SOON_SECONDS)
    assert hint is not None
    return hint


def _received(transport: Transport) -> str:
    return _hint(transport).job_id


def _thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread
