"""What every transport must do, as executable tests that need nothing but plain asserts."""
# ruff: noqa: D102 - a test's name is its docstring

import threading
import time
import uuid

from image_processor.transports.base import Transport

PUBLISH_SECONDS = 0.3
"""No publish takes longer."""
SOON_SECONDS = 5.0
"""A hint that arrives at all arrives long before that."""
SHORT_SECONDS = 0.05
NORMAL = 1


class TransportContract:
    """
    Subclass it in a test module and give it a fixture `transport`, an empty transport for each test.

    Without pytest, call each method with an empty transport.
    """

    def test_carries_an_id(self, transport: Transport) -> None:
        job_id = str(uuid.uuid4())
        transport.publish(job_id, NORMAL)
        assert transport.receive(SOON_SECONDS) == job_id

    def test_carries_each_id_once(self, transport: Transport) -> None:
        published = _publish(transport, 20)
        received = [transport.receive(SOON_SECONDS) for _ in published]
        assert sorted(map(str, received)) == sorted(published)
        assert transport.receive(SHORT_SECONDS) is None

    def test_gives_none_when_there_was_none_within_the_time(self, transport: Transport) -> None:
        started = time.monotonic()
        assert transport.receive(SHORT_SECONDS) is None
        assert time.monotonic() - started < SOON_SECONDS

    def test_wakes_one_who_waits(self, transport: Transport) -> None:
        received: list[str | None] = []
        waiter = threading.Thread(target=lambda: received.append(transport.receive(SOON_SECONDS)))
        started = time.monotonic()
        waiter.start()
        transport.publish("job-1", NORMAL)
        waiter.join(SOON_SECONDS)
        assert received == ["job-1"]
        assert time.monotonic() - started < SOON_SECONDS

    def test_two_who_wait_never_get_the_same(self, transport: Transport) -> None:
        published = _publish(transport, 50)
        received: list[str] = []

        def receive_all() -> None:
            while (job_id := transport.receive(SHORT_SECONDS)) is not None:
                received.append(job_id)

        waiters = [threading.Thread(target=receive_all) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join()
        assert sorted(received) == sorted(published)

    def test_counts_the_hints_that_wait(self, transport: Transport) -> None:
        assert transport.depth() == 0
        _publish(transport, 3)
        assert transport.depth() == 3
        transport.receive(SOON_SECONDS)
        assert transport.depth() == 2

    def test_takes_every_priority(self, transport: Transport) -> None:
        for priority in (0, 1, 2):
            transport.publish(f"job-{priority}", priority)
        received = {transport.receive(SOON_SECONDS) for _ in range(3)}
        assert received == {"job-0", "job-1", "job-2"}

    def test_publishing_neither_raises_nor_waits_however_much_is_published(
        self, transport: Transport
    ) -> None:
        slowest = 0.0
        for number in range(5000):
            started = time.monotonic()
            transport.publish(f"job-{number}", NORMAL)
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < PUBLISH_SECONDS
        assert 0 < transport.depth() <= 5000

    def test_the_epoch_is_one_name_for_one_life(self, transport: Transport) -> None:
        epoch = transport.epoch()
        assert epoch
        _publish(transport, 3)
        transport.receive(SOON_SECONDS)
        assert transport.epoch() == epoch


def _publish(transport: Transport, count: int) -> list[str]:
    job_ids = [str(uuid.uuid4()) for _ in range(count)]
    for job_id in job_ids:
        transport.publish(job_id, NORMAL)
    return job_ids
