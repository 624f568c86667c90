"""Slots that hear of their jobs through a real broker: hints followed, doubled, garbled, missed."""

import signal
import threading
from contextlib import ExitStack

import pytest

from image_processor.jobs import Priority
from image_processor.maintenance import Sweeper
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing.fake_engine import FakeEngine
from image_processor.transports.redis_list import RedisTransport
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.slot import Slot
from image_processor.worker.stall import StallDetector
from integration.test_worker import WorkerProcess, wait_until
from integration.workshop import PATIENCE_SECONDS, Workshop, in_thread
from valkey_server import free_port


class RealTransport(RedisTransport):
    """As it is, but that it can be made deaf, as a consumer that lost its connection and does not know."""

    is_deaf = False

    def receive(self, timeout_seconds):
        if self.is_deaf:
            self._closed.wait(timeout_seconds)
            return None
        return super().receive(timeout_seconds)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """A slot that is told to stop listens to the end first."""
    monkeypatch.setattr("image_processor.worker.slot.LISTEN_SECONDS", 0.2)


@pytest.fixture
def shop(tmp_path):
    shop = Workshop(tmp_path, MemoryStorage())
    yield shop
    shop.close()


@pytest.fixture
def new_transport(redis_url, queue_namespace):
    made = []

    def new(worker_id, url=redis_url):
        made.append(RealTransport(url, namespace=queue_namespace, worker_id=worker_id))
        return made[-1]

    yield new
    for transport in made:
        transport.close()


@pytest.fixture
def transport(new_transport):
    return new_transport("worker-1")


def slot_of(shop, transport, **changes):
    given = {
        "worker_id": "worker-1",
        "jobs": shop.jobs,
        "dispatch": shop.dispatch,
        "transport": transport,
        "stall": StallDetector(shop.dispatch, transport="redis", stall_seconds=PATIENCE_SECONDS),
        "runner": shop.runner,
        "leases": LeaseKeeper(shop.jobs, lease_seconds=30.0),
        "new_engine": FakeEngine,
        "lease_seconds": 30.0,
        "poll_seconds": 0.02,
    }
    return Slot(**(given | changes))


def submit(shop, transport, **fields):
    """As the service does."""
    receipt = shop.submit(**fields)
    assert transport.publish(receipt.job_id, fields.get("priority", Priority.NORMAL))
    return receipt


def statuses(shop, receipts):
    return [shop.job_row(receipt.job_id)["status"] for receipt in receipts]


def wait_for_all(shop, receipts):
    wait_until(lambda: set(statuses(shop, receipts)) == {"completed"})


def assert_nothing_is_left(transport, new_transport):
    """No hint waits, and none is in progress."""
    wait_until(lambda: transport.depth() == 0)
    wait_until(lambda: new_transport("stranger").reclaim([]) == 0)


class Working:
    """Slots of one worker process at work while the block lasts."""

    def __init__(self, *slots):
        self._slots = slots
        self._stop = threading.Event()
        self._threads = ExitStack()

    def __enter__(self):
        for slot in self._slots:
            self._threads.enter_context(in_thread(slot.run, self._stop))

    def __exit__(self, *_):
        self._stop.set()
        self._threads.close()


class TestHints:
    def test_a_hint_is_followed_and_then_forgotten(self, shop, transport, new_transport):
        with Working(slot_of(shop, transport)):
            receipts = [submit(shop, transport) for _ in range(3)]
            wait_for_all(shop, receipts)
            assert_nothing_is_left(transport, new_transport)

    def test_it_is_in_progress_until_the_job_has_come_to_rest(self, shop, transport, new_transport):
        engine = FakeEngine(is_held=True)
        slot = slot_of(shop, transport, new_engine=lambda: engine)
        receipt = submit(shop, transport)
        with Working(slot):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            assert new_transport("stranger").reclaim([]) == 1, "so it would be put back, had we died"
            engine.release()
            wait_for_all(shop, [receipt])

    def test_it_claims_what_it_names_and_not_the_best(self, shop, transport):
        shop.submit(priority=Priority.HIGH)
        named = submit(shop, transport, priority=Priority.LOW)
        slot_of(shop, transport).listen(FakeEngine(), threading.Event())
        assert statuses(shop, [named]) == ["completed"]

    @pytest.mark.slow
    def test_fifty_hints_of_one_job_make_one_execution(self, shop, transport, new_transport):
        engines = [FakeEngine() for _ in range(4)]
        waiting = iter(engines)
        slots = [slot_of(shop, transport, new_engine=lambda: next(waiting)) for _ in engines]
        receipt = shop.submit()
        for _ in range(50):
            transport.publish(receipt.job_id, Priority.NORMAL)
        with Working(*slots):
            wait_for_all(shop, [receipt])
            assert_nothing_is_left(transport, new_transport)
        assert sum(len(engine.requests) for engine in engines) == 1
        assert shop.completions(receipt) == 1
        assert shop.job_row(receipt.job_id)["attempt_count"] == 1

    def test_hints_of_no_job_are_dropped(self, shop, transport, new_transport):
        for garbage in ("no such job", "' or 1=1 --", "\N{SNOWMAN}" * 20, "0"):
            transport.publish(garbage, Priority.HIGH)
        with Working(slot_of(shop, transport)):
            wait_for_all(shop, [submit(shop, transport)])
            assert_nothing_is_left(transport, new_transport)
        assert shop.events_told("slot.failed") == []

    def test_so_is_one_that_no_database_could_store(self, shop):
        from image_processor.transports.base import Hint  # noqa: PLC0415

        acknowledged = threading.Event()
        slot = slot_of(shop, None)
        slot.follow(Hint("\ud800", acknowledged.set), FakeEngine(), threading.Event())
        assert acknowledged.is_set()
        assert shop.events_told() == ["hint.refused"]

    def test_a_busy_database_is_waited_for_with_the_hint_in_hand(self, shop, transport, monkeypatch):
        monkeypatch.setattr("image_processor.worker.slot.RECOVERY_SECONDS", 0.01)
        receipt = submit(shop, transport)
        with shop.write_lock(until=lambda event: event == "slot.failed"), Working(slot_of(shop, transport)):
            wait_for_all(shop, [receipt])
        assert "slot.failed" in shop.events_told()


class TestStop:
    def test_a_hint_in_hand_is_passed_on(self, shop, transport, new_transport):
        receipt = submit(shop, transport)
        hint = transport.receive(PATIENCE_SECONDS)
        stop = threading.Event()
        stop.set()
        slot_of(shop, transport).follow(hint, FakeEngine(), stop)
        assert statuses(shop, [receipt]) == ["pending"]
        assert [job.job_id for job in shop.dispatch.take(10)] == [receipt.job_id]
        assert_nothing_is_left(transport, new_transport)

    def test_where_that_cannot_be_it_is_kept_for_the_sweepers(self, shop, transport, new_transport):
        submit(shop, transport)
        hint = transport.receive(PATIENCE_SECONDS)
        stop = threading.Event()
        stop.set()
        with shop.write_lock():
            slot_of(shop, transport).follow(hint, FakeEngine(), stop)
        assert shop.events_told("hint.kept") == ["hint.kept"]
        assert new_transport("stranger").reclaim([]) == 1


class TestEngines:
    def test_a_job_whose_attempt_has_died_gets_an_engine_of_its_own(self, shop, transport):
        engines = []

        def new_engine():
            engines.append(FakeEngine())
            return engines[-1]

        once_dead = submit(shop, transport)
        shop.execute("update processing_jobs set crash_count = 1, attempt_count = 1")
        slot = slot_of(shop, transport, new_engine=new_engine)
        with Working(slot):
            wait_for_all(shop, [once_dead])
            wait_for_all(shop, [submit(shop, transport)])
        own, fresh = engines
        assert [len(engine.requests) for engine in engines] == [1, 1]
        assert fresh.is_closed
        assert own.is_closed


@pytest.mark.slow
class TestStall:
    def stall_of(self, shop):
        return StallDetector(shop.dispatch, transport="redis", stall_seconds=0.3)

    def test_jobs_go_on_while_the_transport_is_deaf_and_it_is_heard_again(self, shop, transport):
        transport.is_deaf = True
        stall = self.stall_of(shop)
        receipts = [submit(shop, transport) for _ in range(6)]
        with Working(*(slot_of(shop, transport, stall=stall) for _ in range(2))):
            wait_for_all(shop, receipts)
            assert stall.is_stalled
            transport.is_deaf = False
            wait_until(lambda: not stall.is_stalled)
            wait_for_all(shop, [submit(shop, transport)])
        told = shop.events_told("transport.stalled", "transport.recovered")
        assert told == ["transport.stalled", "transport.recovered"]
        assert [shop.completions(receipt) for receipt in receipts] == [1] * 6

    def test_a_slot_that_hears_nothing_rests_in_between(self, shop, new_transport):
        """A broker that refuses connections answers at once, which must not make a busy loop."""
        transport = new_transport("worker-1", f"redis://127.0.0.1:{free_port()}/0")
        calls, stop = [], threading.Event()
        receive = transport.receive
        transport.receive = lambda seconds: (calls.append(seconds), receive(0.0))[1]
        with in_thread(slot_of(shop, transport).run, stop):
            wait_until(lambda: len(calls) >= 2)
            stop.wait(0.5)
            seen = len(calls)
            stop.set()
        assert seen <= 8


@pytest.fixture
def disk(tmp_path):
    shop = Workshop(tmp_path, LocalStorage(tmp_path / "storage"))
    (tmp_path / "gate").touch()
    yield shop
    shop.close()


@pytest.fixture
def start_worker(tmp_path, queue_namespace):
    started = []

    def start(redis_url, **environment):
        hints = {"QUEUE_BACKEND": "redis", "REDIS_URL": redis_url, "QUEUE_NAMESPACE": queue_namespace}
        started.append(WorkerProcess(tmp_path, tmp_path / "gate", **(hints | environment)))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


@pytest.mark.slow
class TestProcess:
    def test_a_worker_starts_and_works_while_the_broker_is_down(self, disk, start_worker):
        receipt = disk.submit()
        worker = start_worker(f"redis://127.0.0.1:{free_port()}/0", STALL_SECONDS="0.5")
        worker.wait_for("job.completed")
        assert "transport.stalled" in worker.logged()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.exit_code() == 0
        assert disk.completions(receipt) == 1

    def test_a_killed_worker_is_replaced_after_its_lease(self, disk, start_worker, redis_url, transport):
        gate = disk.folder / "gate"
        gate.unlink()
        first = start_worker(redis_url, LEASE_SECONDS="1")
        receipt = submit(disk, transport)
        wait_until(lambda: statuses(disk, [receipt]) == ["processing"])
        first.process.kill()
        gate.touch()
        second = start_worker(redis_url, LEASE_SECONDS="1")
        second.wait_for("job.completed")
        row = disk.job_row(receipt.job_id)
        assert (row["attempt_count"], row["crash_count"]) == (2, 1)
        assert "transport.stalled" not in second.logged(), "its hint came through the broker"

    def test_a_flushed_broker_costs_a_tick(self, disk, start_worker, redis_url, transport, valkey):
        """The sweeper is another process than the one that works, as in life."""
        house = disk.house(transport)
        stop = threading.Event()
        with in_thread(Sweeper(house).run, stop):
            wait_until(lambda: valkey.command("DBSIZE") != b":0\r\n")
            receipts = [submit(disk, transport) for _ in range(5)]
            valkey.flush()
            worker = start_worker(redis_url)
            worker.wait_for("job.completed", 5)
            stop.set()
        assert [disk.completions(receipt) for receipt in receipts] == [1] * 5
        assert "transport.stalled" not in worker.logged()
