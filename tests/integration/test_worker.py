"""Slot and lease keeper called step by step; then the worker as a real process, with real signals."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from image_processor.bootstrap import WorkerParts
from image_processor.errors import UnavailableError
from image_processor.jobs import Lease
from image_processor.maintenance import Sweeper
from image_processor.runner import Ending
from image_processor.settings import load_settings
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing.fake_engine import FakeEngine
from image_processor.transports.embedded import EmbeddedTransport
from image_processor.worker import process
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.presence import Presence
from image_processor.worker.slot import Slot
from image_processor.worker.stall import StallDetector
from integration.workshop import PATIENCE_SECONDS, Workshop, an_error, in_thread

GATED_WORKER = Path(__file__).with_name("gated_worker.py")


@pytest.fixture
def shop(tmp_path):
    shop = Workshop(tmp_path, MemoryStorage())
    yield shop
    shop.close()


def keeper_of(shop, jobs=None):
    return LeaseKeeper(jobs or shop.jobs, lease_seconds=30.0)


def stall_of(shop, stall_seconds=60.0):
    return StallDetector(shop.dispatch, transport="embedded", stall_seconds=stall_seconds)


def slot_of(shop, **changes):
    given = {
        "worker_id": "worker-1",
        "jobs": shop.jobs,
        "dispatch": shop.dispatch,
        "transport": EmbeddedTransport(),
        "stall": stall_of(shop),
        "runner": shop.runner,
        "leases": keeper_of(shop),
        "new_engine": FakeEngine,
        "lease_seconds": 30.0,
        "poll_seconds": 0.01,
    }
    return Slot(**(given | changes))


class TestSlot:
    def test_works_one_job_at_a_time(self, shop):
        receipts = [shop.submit(), shop.submit()]
        slot, engine = slot_of(shop), FakeEngine()
        assert slot.work_once(engine) is True
        statuses = [shop.job_row(receipt.job_id)["status"] for receipt in receipts]
        assert statuses == ["completed", "pending"]

    def test_says_when_there_is_none(self, shop):
        assert slot_of(shop).work_once(FakeEngine()) is False

    def test_holds_the_lease_while_the_job_runs_and_not_after(self, shop):
        slot, engine = slot_of(shop), FakeEngine(is_held=True)
        receipt = shop.submit()
        with in_thread(slot.work_once, engine):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            before = shop.job_row(receipt.job_id)["lease_until"]
            shop.execute("update processing_jobs set lease_until = lease_until - 20")
            slot.leases.beat()
            assert shop.job_row(receipt.job_id)["lease_until"] >= before
            engine.release()
        assert shop.job_row(receipt.job_id)["status"] == "completed"
        slot.leases.end_all(Ending.STOPPED)
        assert slot.work_once(engine) is False

    def test_gives_the_lease_up_when_the_runner_falls_over(self, shop):
        class FallenRunner:
            def run(self, attempt):
                ran.append(attempt)
                raise UnavailableError("The database is busy.")

        ran = []
        slot = slot_of(shop, runner=FallenRunner())
        shop.submit()
        with pytest.raises(UnavailableError):
            slot.work_once(FakeEngine())
        slot.leases.end_all(Ending.STOPPED)
        assert ran[0].ending is None

    def test_runs_until_told_to_stop_and_closes_its_engine(self, shop):
        engine, stop = FakeEngine(), threading.Event()
        receipt = shop.submit()
        with in_thread(slot_of(shop, new_engine=lambda: engine).run, stop):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            stop.set()
        assert engine.is_closed
        assert shop.job_row(receipt.job_id)["status"] == "completed"

    def test_finishes_what_it_has_when_told_to_stop_and_takes_nothing_more(self, shop):
        engine, stop = FakeEngine(is_held=True), threading.Event()
        first, second = shop.submit(), shop.submit()
        with in_thread(slot_of(shop, new_engine=lambda: engine).run, stop):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            stop.set()
            engine.release()
        assert shop.job_row(first.job_id)["status"] == "completed"
        assert shop.job_row(second.job_id)["status"] == "pending"

    def test_goes_on_after_the_database_was_busy(self, shop, monkeypatch):
        monkeypatch.setattr("image_processor.worker.slot.RECOVERY_SECONDS", 0.01)
        engine, stop = FakeEngine(), threading.Event()
        shop.submit()
        slot = slot_of(shop, new_engine=lambda: engine)
        with shop.write_lock(until=lambda event: event == "slot.failed"), in_thread(slot.run, stop):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            stop.set()
        assert "slot.failed" in shop.events_told()
        assert "job.completed" in shop.events_told()

    def test_a_hint_wakes_it_before_its_poll(self, shop):
        transport, stop, engine = EmbeddedTransport(), threading.Event(), FakeEngine()
        slot = slot_of(shop, transport=transport, poll_seconds=PATIENCE_SECONDS, new_engine=lambda: engine)
        started = time.monotonic()
        with in_thread(slot.run, stop):
            receipt = shop.submit()
            transport.publish(receipt.job_id, 1)
            assert engine.has_started.wait(PATIENCE_SECONDS)
            stop.set()
            transport.publish("wake up and stop", 1)
        assert time.monotonic() - started < PATIENCE_SECONDS / 2


class Answers:
    """The jobs as a heartbeat sees them: one answer, or one error, after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def heartbeat(self, _claim, *, lease_seconds):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class TestLeaseKeeper:
    def held(self, shop, *answers):
        keeper = keeper_of(shop, Answers(*answers) if answers else None)
        attempt = shop.attempt()
        keeper.add(attempt)
        return keeper, attempt

    def test_a_lease_that_holds_lets_the_work_go_on(self, shop):
        keeper, attempt = self.held(shop)
        shop.execute("update processing_jobs set lease_until = 1")
        keeper.beat()
        assert attempt.ending is None
        assert shop.job_row(attempt.claim.job_id)["lease_until"] > time.time() + 20

    def test_a_lost_lease_ends_the_attempt(self, shop):
        keeper, attempt = self.held(shop)
        winner = shop.take_over(attempt)
        keeper.beat()
        assert attempt.ending is Ending.LOST
        assert shop.job_row(winner.claim.job_id)["claim_seq"] == winner.claim.claim_seq

    def test_a_cancelled_job_ends_the_attempt(self, shop):
        keeper, attempt = self.held(shop)
        shop.jobs.cancel(attempt.claim.job_id, "ada")
        keeper.beat()
        assert attempt.ending is Ending.CANCELLED

    def test_stops_a_render_at_once(self, shop):
        keeper, engine = keeper_of(shop), FakeEngine(is_held=True)
        attempt = shop.attempt(engine)
        keeper.add(attempt)
        with in_thread(shop.runner.run, attempt):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            shop.jobs.cancel(attempt.claim.job_id, "ada")
            keeper.beat()
        assert shop.outcome(attempt)[:2] == ("failed", "cancelled")

    def test_two_missed_beats_end_the_attempt(self, shop):
        keeper, attempt = self.held(shop)
        with shop.write_lock():
            keeper.beat()
            assert attempt.ending is None
            keeper.beat()
        assert attempt.ending is Ending.LOST
        missed = [fields["missed"] for event, fields in shop.told if event == "heartbeat.failed"]
        assert missed == [1, 2]

    def test_a_beat_between_two_misses_counts_anew(self, shop):
        miss = an_error(UnavailableError)
        keeper, attempt = self.held(shop, miss, Lease.HELD, miss, Lease.HELD)
        for _ in range(4):
            keeper.beat()
        assert attempt.ending is None

    def test_one_attempt_that_is_lost_does_not_end_its_neighbour(self, shop):
        keeper, lost = self.held(shop)
        neighbour = shop.attempt()
        keeper.add(neighbour)
        shop.take_over(lost)
        keeper.beat()
        assert (lost.ending, neighbour.ending) == (Ending.LOST, None)

    def test_an_answer_for_an_attempt_that_has_finished_does_not_reach_the_next_in_its_slot(self, shop):
        """A job completes while its heartbeat is under way: the beat learns LOST, the engine moves on."""
        engine = FakeEngine()
        finished = shop.attempt(engine)
        keeper = keeper_of(shop, jobs=self)
        keeper.add(finished)

        def heartbeat(claim, *, lease_seconds):
            shop.runner.run(finished)
            keeper.remove(finished)
            return shop.jobs.heartbeat(claim, lease_seconds=lease_seconds)

        self.heartbeat = heartbeat
        interrupts = []
        engine.interrupt = lambda: interrupts.append("the next job's render")
        keeper.beat()
        assert shop.outcome(finished)[0] == "completed"
        assert interrupts == []

    def test_beats_three_times_a_lease_until_told_to_stop(self, shop):
        class Counting(Answers):
            def heartbeat(self, claim, *, lease_seconds):
                beats.append(time.monotonic())
                if len(beats) == 3:
                    stop.set()
                return super().heartbeat(claim, lease_seconds=lease_seconds)

        beats, stop = [], threading.Event()
        keeper = LeaseKeeper(Counting(Lease.HELD, Lease.HELD, Lease.HELD), lease_seconds=0.6)
        keeper.add(shop.attempt())
        started = time.monotonic()
        keeper.run(stop)
        assert len(beats) == 3
        assert beats[-1] - started >= 0.55

    def test_a_beat_that_hangs_does_not_hold_the_attempt_beyond_its_lease(self, shop):
        class Silent(Answers):
            def heartbeat(self, claim, *, lease_seconds):
                is_asked.set()
                has_ended.wait(PATIENCE_SECONDS)
                return Lease.HELD

        is_asked, has_ended, stop = threading.Event(), threading.Event(), threading.Event()
        keeper, attempt = LeaseKeeper(Silent(), lease_seconds=0.9), shop.attempt()
        keeper.add(attempt)
        with in_thread(keeper.run, stop), in_thread(keeper.watch, stop):
            assert is_asked.wait(PATIENCE_SECONDS)
            assert attempt.ending is None
            assert attempt.wait(PATIENCE_SECONDS)
            stop.set()
            has_ended.set()
        assert attempt.ending is Ending.LOST

    def test_a_beat_that_is_written_puts_off_the_end(self, shop):
        keeper = LeaseKeeper(Answers(Lease.HELD), lease_seconds=0.3)
        attempt = shop.attempt()
        keeper.add(attempt)
        threading.Event().wait(0.15)
        keeper.beat()
        threading.Event().wait(0.15)
        keeper.end_overdue()
        assert attempt.ending is None

    def test_a_slow_beat_is_followed_by_the_next_at_once(self, shop):
        class Slow(Answers):
            def heartbeat(self, claim, *, lease_seconds):
                beats.append(time.monotonic())
                if len(beats) == 3:
                    stop.set()
                threading.Event().wait(0.4)
                return Lease.HELD

        beats, stop = [], threading.Event()
        keeper = LeaseKeeper(Slow(), lease_seconds=0.9)
        keeper.add(shop.attempt())
        keeper.run(stop)
        assert beats[2] - beats[0] < 1.3, "two slow beats, and no pause between them"


def present(shop):
    with shop.database.read() as connection:
        return connection.exec_driver_sql("select worker_id, slots from workers").all()


class TestPresence:
    @pytest.fixture(autouse=True)
    def hasty(self, monkeypatch):
        monkeypatch.setattr("image_processor.worker.presence.REPORT_SECONDS", 0.01)

    def presence_of(self, shop):
        return Presence(workers=shop.workers, worker_id="worker-1", slots=3, stall=stall_of(shop))

    def test_is_known_while_it_runs_and_takes_leave(self, shop):
        stop = threading.Event()
        with in_thread(self.presence_of(shop).run, stop):
            wait_until(lambda: present(shop) == [("worker-1", 3)])
            stop.set()
        assert present(shop) == []

    def test_says_since_when_the_transport_tells_nothing(self, shop):
        stop, stall = threading.Event(), stall_of(shop, stall_seconds=0.0)
        presence = Presence(workers=shop.workers, worker_id="worker-1", slots=3, stall=stall)
        with in_thread(presence.run, stop):
            stall.claimed_directly()
            wait_until(lambda: shop.workers.stalled() == 1)
            stall.heard()
            wait_until(lambda: shop.workers.stalled() == 0)
            stop.set()

    def test_a_busy_database_is_told_and_no_more(self, shop):
        stop = threading.Event()
        told = "worker.report.failed"
        with shop.write_lock(until=lambda event: event == told), in_thread(self.presence_of(shop).run, stop):
            wait_until(lambda: present(shop) == [("worker-1", 3)])
            stop.set()
        assert told in shop.events_told()


class TestHandingBack:
    """The end of a worker that is not left the time to finish, in this process."""

    @pytest.fixture(autouse=True)
    def hasty(self, monkeypatch):
        monkeypatch.setattr(process, "STOP_GRACE_SECONDS", 0.1)

    def worker_of(self, shop, engine, **changes):
        parts = {
            "settings": load_settings(workers=1),
            "database": shop.database,
            "jobs": shop.jobs,
            "workers": shop.workers,
            "dispatch": shop.dispatch,
            "transport": EmbeddedTransport(),
            "runner": shop.runner,
            "sweeper": Sweeper(shop.house()),
            "courier": None,
            "new_engine": lambda: engine,
        }
        return process.Worker(WorkerParts(**(parts | changes)), "worker-1")

    def test_what_is_not_done_within_the_grace_is_handed_back(self, shop):
        engine, receipt = FakeEngine(is_held=True), shop.submit()
        worker = self.worker_of(shop, engine)
        with in_thread(worker.run):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            worker.signalled(signal.SIGTERM)
        row = shop.job_row(receipt.job_id)
        assert (row["status"], row["attempt_count"], row["crash_count"]) == ("pending", 0, 0)
        assert engine.is_closed

    def test_so_is_what_does_not_hear_that_it_should_end(self, shop, monkeypatch):
        """As one that reads from a server that has fallen silent."""

        class Deaf(FakeEngine):
            def render(self, *given, **named):
                self.has_started.set()
                may_end.wait(PATIENCE_SECONDS)
                return super().render(*given, **named)

        monkeypatch.setattr(process, "HAND_BACK_SECONDS", 0.1)
        engine, receipt, may_end = Deaf(), shop.submit(), threading.Event()
        worker = self.worker_of(shop, engine)
        with in_thread(worker.run):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            worker.signalled(signal.SIGTERM)
        row = shop.job_row(receipt.job_id)
        may_end.set()
        assert (row["status"], row["attempt_count"], row["crash_count"]) == ("pending", 0, 0)

    def test_so_is_what_was_claimed_a_moment_too_late(self, shop):
        class LateJobs:
            heartbeat = shop.jobs.heartbeat

            def claim(self, worker_id, lease_seconds, job_id):
                in_claim.set()
                assert may_claim.wait(PATIENCE_SECONDS)
                return shop.jobs.claim(worker_id, lease_seconds, job_id)

        in_claim, may_claim, engine = threading.Event(), threading.Event(), FakeEngine(is_held=True)
        receipt = shop.submit()
        worker = self.worker_of(shop, engine, jobs=LateJobs())
        end_all = worker._leases.end_all
        worker._leases.end_all = lambda ending: (end_all(ending), may_claim.set())
        with in_thread(worker.run):
            assert in_claim.wait(PATIENCE_SECONDS)
            worker.signalled(signal.SIGTERM)
        row = shop.job_row(receipt.job_id)
        assert (row["status"], row["attempt_count"], row["claim_seq"]) == ("pending", 0, 1)

    def test_no_thread_is_left(self, shop):
        before = set(threading.enumerate())
        worker = self.worker_of(shop, FakeEngine())
        with in_thread(worker.run):
            worker.signalled(signal.SIGTERM)
        assert set(threading.enumerate()) <= before


class WorkerProcess:
    """A gated worker, and its log."""

    def __init__(self, folder, gate, **environment):
        self.log = []
        self._grown = threading.Condition()
        scrubbed = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, GATED_WORKER, str(gate)],
            cwd=folder,
            env=scrubbed | {"LOG_FORMAT": "json", "WORKERS": "1", "DATA_PATH": str(folder)} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._grown:
                self.log.append(line)
                self._grown.notify_all()

    def wait_for(self, event, count=1):
        """Wait until an event was logged so often."""
        with self._grown:
            seen = self._grown.wait_for(lambda: self.logged().count(event) >= count, PATIENCE_SECONDS)
        assert seen, f"no {event} in {''.join(self.log)}"

    def logged(self):
        return [json.loads(line)["event"] for line in self.log if line.startswith("{")]

    def exit_code(self):
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        self.process.stderr.close()


@pytest.fixture
def disk(tmp_path):
    shop = Workshop(tmp_path, LocalStorage(tmp_path / "storage"))
    yield shop
    shop.close()


@pytest.fixture
def start_worker(tmp_path):
    started = []

    def start(gate=tmp_path / "gate", **environment):
        started.append(WorkerProcess(tmp_path, gate, **environment))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def wait_until(is_so):
    """Poll what only another process can tell."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at
        threading.Event().wait(0.01)


def is_processing(shop, receipt):
    return shop.job_row(receipt.job_id)["status"] == "processing"


@pytest.mark.slow
class TestProcess:
    def test_sigterm_lets_the_running_job_finish_and_takes_no_other(self, disk, start_worker):
        worker = start_worker()
        running, waiting = disk.submit(), disk.submit()
        wait_until(lambda: is_processing(disk, running))
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for("worker.stopping")
        (disk.folder / "gate").touch()
        assert worker.exit_code() == 0
        assert disk.job_row(running.job_id)["status"] == "completed"
        row = disk.job_row(waiting.job_id)
        assert (row["status"], row["attempt_count"]) == ("pending", 0)
        assert worker.logged()[-1] == "worker.stopped"

    def test_an_idle_worker_stops_at_once(self, disk, start_worker):
        worker = start_worker()
        worker.wait_for("worker.started")
        started = time.monotonic()
        worker.process.send_signal(signal.SIGINT)
        assert worker.exit_code() == 0
        assert time.monotonic() - started < 5

    def test_a_second_sigterm_hands_the_job_back_with_its_attempt(self, disk, start_worker):
        worker = start_worker()
        receipt = disk.submit()
        wait_until(lambda: is_processing(disk, receipt))
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for("worker.stopping")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.exit_code() == 0
        row = disk.job_row(receipt.job_id)
        assert (row["status"], row["attempt_count"], row["crash_count"]) == ("pending", 0, 0)
        assert "job.released" in worker.logged()
        assert disk.staged() == [row["staging_path"]]

    def test_a_thread_that_dies_ends_the_process(self, disk, start_worker):
        worker = start_worker("-")
        assert worker.exit_code() == 1
        assert "worker.thread.died" in worker.logged()
        assert worker.logged()[-1] == "worker.stopped"

    def test_a_worker_ends_with_its_parent(self, disk, start_worker, tmp_path):
        start = (
            "import os, subprocess, sys\n"
            f"command = [sys.executable, {str(GATED_WORKER)!r}, 'gate', '--parent', str(os.getpid())]\n"
            "worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)\n"
            "print(worker.pid, flush=True)\n"
            "worker.wait()"
        )
        environment = os.environ | {"DATA_PATH": str(tmp_path), "WORKERS": "1"}
        parent = subprocess.Popen(
            [sys.executable, "-c", start], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        with parent.stdout:
            worker = psutil.Process(int(parent.stdout.readline()))
            receipt = disk.submit()
            wait_until(lambda: is_processing(disk, receipt))
            parent.kill()
            parent.wait()
        (disk.folder / "gate").touch()
        psutil.wait_procs([worker], timeout=PATIENCE_SECONDS)
        assert not worker.is_running()
        assert disk.job_row(receipt.job_id)["status"] == "completed", "it was told with SIGTERM, not killed"

    def test_a_killed_worker_is_replaced_after_its_lease(self, disk, start_worker):
        first = start_worker(LEASE_SECONDS="1")
        receipt = disk.submit()
        wait_until(lambda: is_processing(disk, receipt))
        first.process.kill()
        (disk.folder / "gate").touch()
        second = start_worker(LEASE_SECONDS="1")
        second.wait_for("job.completed")
        row = disk.job_row(receipt.job_id)
        assert (row["status"], row["attempt_count"], row["crash_count"]) == ("completed", 2, 1)


def freeze(worker, shop):
    """Stop a process where it is, but not inside a transaction: SQLite's lock would be frozen with it."""
    while True:
        worker.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)
        try:
            with shop.database.write():
                return
        except UnavailableError:
            worker.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_zombie_worker_neither_completes_twice_nor_harms_the_winner(disk, start_worker):
    zombie = start_worker(disk.folder / "zombie-gate", LEASE_SECONDS="1")
    receipt = disk.submit()
    wait_until(lambda: is_processing(disk, receipt))
    claimed = disk.job_row(receipt.job_id)["claim_seq"]
    freeze(zombie, disk)
    (disk.folder / "winner-gate").touch()
    winner = start_worker(disk.folder / "winner-gate", LEASE_SECONDS="1")
    winner.wait_for("job.completed")
    winner.process.terminate()
    assert winner.exit_code() == 0

    (disk.folder / "zombie-gate").touch()
    zombie.process.send_signal(signal.SIGCONT)
    zombie.wait_for("job.lost")
    row = disk.job_row(receipt.job_id)
    assert (row["status"], row["claim_seq"]) == ("completed", claimed + 1)
    assert disk.completions(receipt) == 1
    disk.assert_whole(receipt)

    disk.submit()
    zombie.wait_for("job.completed")  # it is of use again
