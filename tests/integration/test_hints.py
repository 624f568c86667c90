"""The sweeper's steps that supply a broker with hints, on a real Valkey; what is kept where it fails."""

import threading

import pytest

from image_processor.cli.worker_command import WorkerCommand
from image_processor.jobs import Priority
from image_processor.jobs.dispatch import LOST_SECONDS
from image_processor.maintenance import Sweeper
from image_processor.maintenance import hints as hinting
from image_processor.maintenance.hints import Hints
from image_processor.storage.memory import MemoryStorage
from image_processor.transports.embedded import EmbeddedTransport
from image_processor.transports.redis_list import RedisTransport
from integration.workshop import PATIENCE_SECONDS, Workshop

SOON_SECONDS = 0.05


@pytest.fixture
def shop(tmp_path):
    shop = Workshop(tmp_path, MemoryStorage())
    yield shop
    shop.close()


@pytest.fixture
def new_transport(redis_url, queue_namespace):
    made = []

    def new(worker_id=None):
        made.append(RedisTransport(redis_url, namespace=queue_namespace, worker_id=worker_id))
        return made[-1]

    yield new
    for transport in made:
        transport.close()


@pytest.fixture
def transport(new_transport):
    return new_transport("worker-1")


@pytest.fixture
def hasty(monkeypatch):
    """Ticks follow each other faster than in life."""
    monkeypatch.setattr(hinting, "QUIET_SECONDS", 0.0)


def submit_unheard(shop, **fields):
    job_id = shop.submit(**fields).job_id
    shop.dispatch.put_back([job_id])
    return job_id


def heard(transport):
    """All that waits at the broker, in the order in which workers get it."""
    ids = []
    while hint := transport.receive(SOON_SECONDS):
        hint.acknowledge()
        ids.append(hint.job_id)
    return ids


def is_dispatched(shop, job_id):
    return shop.job_row(job_id)["dispatched_at"] is not None


def until(is_so, turn):
    """Take turns until it is so; their number has a generous bound."""
    for _ in range(400):
        turn()
        if is_so():
            return
        threading.Event().wait(0.05)
    pytest.fail("it did not come about")


class TestFill:
    def test_publishes_what_is_due_best_first_and_once(self, shop, transport):
        low, high, normal = (
            submit_unheard(shop, priority=priority)
            for priority in (Priority.LOW, Priority.HIGH, Priority.NORMAL)
        )
        hints = Hints(shop.house(transport))
        assert (hints.fill(), hints.fill()) == (3, 0)
        assert heard(transport) == [high, normal, low]

    def test_leaves_the_backlog_in_the_database(self, shop, transport):
        for _ in range(12):
            submit_unheard(shop)
        hints = Hints(shop.house(transport, min_window=3))
        assert (hints.fill(), hints.fill(), transport.depth()) == (3, 0, 3)
        shop.workers.report("worker-1", 2)
        assert (hints.fill(), transport.depth()) == (5, 8)
        assert len(heard(transport)) == 8
        assert hints.fill() == 4

    @pytest.mark.slow
    def test_what_the_broker_refuses_is_left_to_the_next_turn(self, shop, transport, valkey):
        jobs = [submit_unheard(shop) for _ in range(3)]
        hints = Hints(shop.house(transport))
        valkey.command("CONFIG", "SET", "min-replicas-to-write", "1")
        try:
            assert [hints.fill() for _ in range(4)] == [0, 0, 0, 0]
            assert not any(is_dispatched(shop, job_id) for job_id in jobs)
            assert shop.events_told("sweeper.publish.failed") == ["sweeper.publish.failed"]
        finally:
            valkey.command("CONFIG", "SET", "min-replicas-to-write", "0")
        until(lambda: all(is_dispatched(shop, job_id) for job_id in jobs), hints.fill)
        assert heard(transport) == jobs
        assert shop.events_told("sweeper.publish.recovered") == ["sweeper.publish.recovered"]

    def test_a_hint_that_got_lost_is_sent_again_once_nothing_waits_at_the_broker(self, shop, transport):
        lost = shop.submit().job_id
        shop.execute(f"update processing_jobs set dispatched_at = dispatched_at - {2 * LOST_SECONDS + 1}")
        transport.publish("somebody's", Priority.NORMAL)
        hints = Hints(shop.house(transport))
        assert hints.fill() == 0
        assert heard(transport) == ["somebody's"]
        assert hints.fill() == 1
        assert heard(transport) == [lost]
        assert shop.told[-1] == ("hints.lost", {"count": 1})

    def test_two_sweepers_publish_each_job_once(self, shop, new_transport):
        jobs = [submit_unheard(shop) for _ in range(40)]
        sweepers = [Hints(shop.house(new_transport())) for _ in range(2)]
        threads = [threading.Thread(target=sweeper.fill) for sweeper in sweepers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert sorted(heard(new_transport("worker-1"))) == sorted(jobs)


class TestEpoch:
    def test_one_tick_after_a_flush_everything_is_on_its_way_again(self, shop, transport, valkey):
        sweeper = Sweeper(shop.house(transport))
        sweeper.tick()
        jobs = [shop.submit().job_id for _ in range(3)]
        for job_id in jobs:
            assert transport.publish(job_id, Priority.NORMAL)
        sweeper.tick()
        valkey.flush()
        sweeper.tick()
        assert heard(transport) == jobs
        assert shop.events_told("sweeper.follow_epoch") == ["sweeper.follow_epoch"]

    def test_what_was_submitted_without_a_broker_is_known_to_it_once_there_is_one(self, shop, transport):
        Sweeper(shop.house(EmbeddedTransport())).tick()
        job_id = shop.submit().job_id
        Sweeper(shop.house(transport)).tick()
        assert heard(transport) == [job_id]


class TestReclaim:
    def test_the_hints_of_a_silent_worker_go_to_the_others(self, shop, transport, new_transport):
        dead = new_transport("dead")
        job_id = shop.submit().job_id
        transport.publish(job_id, Priority.NORMAL)
        assert dead.receive(PATIENCE_SECONDS).job_id == job_id
        hints = Hints(shop.house(transport))
        shop.workers.report("dead", 1)
        assert hints.reclaim() == 0
        shop.execute("update workers set seen_at = seen_at - 3600")
        assert hints.reclaim() == 1
        assert heard(transport) == [job_id]

    def test_the_service_does_so_at_once_when_its_worker_dies(self, shop, transport, new_transport):
        command = WorkerCommand(recovery=shop.recovery, workers=shop.workers, transport=new_transport())
        worker_id = command.command()[4]
        held, running = shop.submit().job_id, shop.submit().job_id
        transport.publish(held, Priority.NORMAL)
        assert new_transport(worker_id).receive(PATIENCE_SECONDS)
        assert shop.jobs.claim(worker_id, 60.0, running)
        shop.workers.report(worker_id, 1)
        command.hand_back()
        assert heard(transport) == [held]
        assert shop.job_row(running)["status"] == "retrying"
        assert shop.workers.living() == set()
        assert command.command()[4] != worker_id

    def test_and_the_hints_too_where_the_database_is_busy_for_the_jobs(self, shop, transport, new_transport):
        command = WorkerCommand(recovery=shop.recovery, workers=shop.workers, transport=new_transport())
        transport.publish("held", Priority.NORMAL)
        assert new_transport(command.command()[4]).receive(PATIENCE_SECONDS)
        with shop.write_lock():
            command.hand_back()
        assert heard(transport) == ["held"]
        assert shop.events_told("worker.reap.failed") == ["worker.reap.failed"] * 2


@pytest.mark.slow
class TestOutage:
    def test_a_broker_that_is_down_is_told_of_once_and_holds_up_nothing(self, shop, transport, valkey, hasty):
        sweeper = Sweeper(shop.house(transport))
        job_id = submit_unheard(shop)
        valkey.kill()
        try:
            expired = shop.submit().job_id
            shop.execute("update processing_jobs set expires_at = 0 where job_id = :id", id=expired)
            for _ in range(5):
                sweeper.tick()
            assert shop.job_row(expired)["reason"] == "expired"
            assert not is_dispatched(shop, job_id)
            assert shop.events_told("sweeper.broker.failed") == ["sweeper.broker.failed"]
            assert not [event for event in shop.events_told() if event.startswith("sweeper.dispatch.")]
        finally:
            valkey.start()
        until(lambda: is_dispatched(shop, job_id), sweeper.tick)
        assert heard(transport) == [job_id]
        assert shop.events_told("sweeper.broker.recovered") == ["sweeper.broker.recovered"]

    def test_within_a_tick_it_is_asked_once(self, shop, transport, valkey, monkeypatch):
        monkeypatch.setattr(hinting, "QUIET_SECONDS", PATIENCE_SECONDS)
        hints = Hints(shop.house(transport))
        valkey.kill()
        try:
            hints.follow_epoch()
        finally:
            valkey.start()
        submit_unheard(shop)
        assert (hints.reclaim(), hints.fill()) == (0, 0)


def test_a_transport_without_a_broker_is_left_alone(shop):
    transport = EmbeddedTransport()
    job_id = submit_unheard(shop)
    sweeper = Sweeper(shop.house(transport))
    for _ in range(3):
        sweeper.tick()
    assert transport.depth() == 0
    assert not is_dispatched(shop, job_id)
