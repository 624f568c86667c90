"""The sweeper's steps, each called by itself on a real database, stage and storage."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from image_processor.errors import CorruptImageError, StorageDownError, StorageError, UnavailableError
from image_processor.jobs import Status, new_id
from image_processor.jobs.strays import StrayRepository
from image_processor.maintenance import Chore, ReaperGate, Sweeper, outputs
from image_processor.maintenance import sweeper as sweeping
from image_processor.maintenance.outputs import OutputSweep
from image_processor.maintenance.sweeper import ORPHAN_SECONDS
from image_processor.placement import variant_keys
from image_processor.runner import Attempt, Ending
from image_processor.storage.keys import INCOMING
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing.fake_engine import FakeEngine
from integration.workshop import PATIENCE_SECONDS, PICTURE, FailingEngine, Workshop, an_error, in_thread

LEASE_SECONDS = 30.0


class Clock:
    """The two clocks of a machine, moved by hand."""

    def __init__(self, monkeypatch):
        self.monotonic, self.wall = 1000.0, 1_800_000_000.0
        clocks = SimpleNamespace(monotonic=lambda: self.monotonic, time=lambda: self.wall)
        monkeypatch.setattr(sweeping, "time", clocks)

    def run(self, seconds):
        self.monotonic += seconds
        self.wall += seconds

    def step(self, seconds):
        """Somebody set the wall clock."""
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture(params=["local", "memory"])
def shop(request, tmp_path):
    storage = LocalStorage(tmp_path / "storage") if request.param == "local" else MemoryStorage()
    shop = Workshop(tmp_path, storage, grace_seconds=0.0)
    yield shop
    shop.close()


def sweeper_of(shop, **changes):
    return Sweeper(shop.house(**({"lease_seconds": LEASE_SECONDS} | changes)))


def ticking(clock, seconds, sweeper=None, gate=None):
    """A second at a time, as the sweeper's thread does."""
    for _ in range(int(seconds)):
        clock.run(1.0)
        if sweeper:
            sweeper.tick()
        if gate:
            gate.is_open()


def end_lease(shop, attempt):
    shop.execute("update processing_jobs set lease_until = 0 where job_id = :id", id=attempt.claim.job_id)


def make_old(path, seconds=ORPHAN_SECONDS + 60):
    then = time.time() - seconds
    os.utime(path, (then, then))


class TestReaperGate:
    def test_is_shut_until_one_healthy_lease_has_passed(self, clock):
        gate = ReaperGate(LEASE_SECONDS)
        assert not gate.is_open()
        ticking(clock, LEASE_SECONDS - 1, gate=gate)
        assert not gate.is_open()
        clock.run(1.0)
        assert gate.is_open()

    def test_a_failed_query_shuts_it_for_another_lease(self, clock):
        gate = ReaperGate(LEASE_SECONDS)
        ticking(clock, LEASE_SECONDS, gate=gate)
        assert gate.is_open()
        gate.shut()
        ticking(clock, LEASE_SECONDS - 1, gate=gate)
        assert not gate.is_open()
        ticking(clock, 1, gate=gate)
        assert gate.is_open()

    @pytest.mark.parametrize("step", [3600.0, -3600.0, LEASE_SECONDS / 3 + 1])
    def test_a_step_of_the_wall_clock_shuts_it(self, clock, step):
        gate = ReaperGate(LEASE_SECONDS)
        ticking(clock, LEASE_SECONDS, gate=gate)
        clock.step(step)
        assert not gate.is_open()
        ticking(clock, LEASE_SECONDS, gate=gate)
        assert gate.is_open()

    def test_a_small_correction_of_the_clock_does_not(self, clock):
        gate = ReaperGate(LEASE_SECONDS)
        ticking(clock, LEASE_SECONDS, gate=gate)
        clock.step(1.0)
        assert gate.is_open()

    def test_a_freeze_of_the_whole_house_shuts_it(self, clock):
        gate = ReaperGate(LEASE_SECONDS)
        ticking(clock, LEASE_SECONDS, gate=gate)
        clock.run(LEASE_SECONDS)
        assert not gate.is_open(), "nobody could heartbeat while a container was frozen"
        ticking(clock, LEASE_SECONDS, gate=gate)
        assert gate.is_open()

    def test_a_tick_that_takes_longer_than_a_short_lease_does_not(self, clock):
        gate = ReaperGate(1.0)
        for _ in range(3):
            clock.run(2.0)
            gate.is_open()
        assert gate.is_open()


class TestReap:
    def test_takes_the_job_of_a_dead_worker_once_the_gate_is_open(self, shop, clock):
        sweeper = sweeper_of(shop)
        attempt = shop.attempt()
        end_lease(shop, attempt)
        ticking(clock, LEASE_SECONDS - 1, sweeper)
        assert shop.outcome(attempt)[0] == "processing"
        ticking(clock, 1, sweeper)
        assert shop.outcome(attempt) == ("retrying", None, 1)
        assert shop.job_row(attempt.claim.job_id)["crash_count"] == 1
        assert shop.events_told("job.recovered") == ["job.recovered"]

    def test_leaves_a_lease_that_holds(self, shop, clock):
        attempt = shop.attempt()
        ticking(clock, 2 * LEASE_SECONDS, sweeper_of(shop))
        assert shop.outcome(attempt)[0] == "processing"

    def test_waits_another_lease_after_an_outage_of_the_database(self, shop, clock):
        sweeper = sweeper_of(shop)
        attempt = shop.attempt()
        ticking(clock, LEASE_SECONDS, sweeper)
        with shop.write_lock():
            ticking(clock, 2, sweeper)
        assert "sweeper.expire.failed" in shop.events_told()
        end_lease(shop, attempt)
        ticking(clock, LEASE_SECONDS - 1, sweeper)
        assert shop.outcome(attempt)[0] == "processing"
        ticking(clock, 1, sweeper)
        assert shop.outcome(attempt)[0] == "retrying"

    def test_is_not_held_up_by_a_storage_that_does_not_answer(self, shop, clock):
        asked, may_answer = threading.Event(), threading.Event()

        class Silent(MemoryStorage):
            def delete(self, key):
                asked.set()
                assert may_answer.wait(PATIENCE_SECONDS)
                raise StorageDownError("It did not answer in time.")

        deleted = shop.run()
        shop.images.delete(deleted.claim.image_id, "ada")
        sweeper = sweeper_of(shop, storage=Silent())
        with in_thread(sweeper.clean):
            assert asked.wait(PATIENCE_SECONDS)
            attempt = shop.attempt()
            end_lease(shop, attempt)
            ticking(clock, LEASE_SECONDS, sweeper)
            assert shop.outcome(attempt)[0] == "retrying"
            assert not shop.events_told("image.purge.failed"), "it still waits"
            may_answer.set()
        assert shop.events_told("image.purge.failed") == ["image.purge.failed"]


class TestTick:
    def test_a_step_that_fails_is_told_and_does_not_stop_the_others(self, shop, clock):
        class Forgetful:
            def prune(self, _seconds):
                raise RuntimeError("a bug of ours")

        sweeper = sweeper_of(shop, rate_limits=Forgetful())
        attempt = shop.attempt()
        end_lease(shop, attempt)
        ticking(clock, LEASE_SECONDS, sweeper)
        assert ("sweeper.prune.failed", {"error": "RuntimeError: a bug of ours"}) in shop.told
        assert shop.outcome(attempt)[0] == "retrying"

    def test_runs_until_told_to_stop(self, shop, monkeypatch):
        monkeypatch.setattr(sweeping, "TICK_SECONDS", 0.01)
        stop, ticked = threading.Event(), threading.Event()
        sweeper = sweeper_of(shop, rate_limits=SimpleNamespace(prune=lambda _seconds: ticked.set()))
        thread = threading.Thread(target=sweeper.run, args=(stop,))
        thread.start()
        assert ticked.wait(PATIENCE_SECONDS)
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()

    def test_two_sweepers_at_once_do_everything_once(self, shop, clock):
        jobs = [shop.attempt() for _ in range(5)]
        for attempt in jobs:
            end_lease(shop, attempt)
        sweepers = [sweeper_of(shop), sweeper_of(shop)]
        for _ in range(int(LEASE_SECONDS)):
            clock.run(1.0)
            for sweeper in sweepers:
                sweeper.tick()
        assert [shop.job_row(attempt.claim.job_id)["crash_count"] for attempt in jobs] == [1] * 5
        assert shop.events_told("job.recovered") == ["job.recovered"] * 5


class TestClean:
    def test_a_step_that_fails_is_told_and_does_not_stop_the_others(self, shop):
        def fall_over(_seconds):
            raise RuntimeError("a bug of ours")

        shop.images.delete(shop.run().claim.image_id, "ada")
        sweeper = sweeper_of(shop, sweeps=(fall_over,))
        sweeper.clean()
        assert ("sweeper.sweep_scratch.failed", {"error": "RuntimeError: a bug of ours"}) in shop.told
        assert ("sweeper.purge", {"count": 1}) in shop.told

    def test_a_chore_is_done_when_it_is_due_and_told_where_there_was_something(self, shop, clock):
        found = iter((0, 3, 0))
        sweeper = sweeper_of(shop, chores=(Chore(name="dust", every_seconds=60.0, run=lambda: next(found)),))
        for _ in range(120):
            sweeper.clean()
            clock.run(1.0)
        assert [told for told in shop.told if told[0] == "sweeper.dust"] == [("sweeper.dust", {"count": 3})]
        assert next(found) == 0, "twice in two minutes"

    def test_runs_until_told_to_stop(self, shop, monkeypatch):
        monkeypatch.setattr(sweeping, "TICK_SECONDS", 0.01)
        stop, cleaned = threading.Event(), threading.Event()
        sweeper = sweeper_of(shop, sweeps=(lambda _seconds: cleaned.set() or 0,))
        thread = threading.Thread(target=sweeper.run_cleaning, args=(stop,))
        thread.start()
        assert cleaned.wait(PATIENCE_SECONDS)
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


class TestExpire:
    def test_ends_a_job_that_did_not_start_in_its_time(self, shop):
        receipt = shop.submit()
        shop.execute("update processing_jobs set expires_at = 0")
        assert sweeper_of(shop).expire() == 1
        row = shop.job_row(receipt.job_id)
        assert (row["status"], row["reason"]) == ("failed", "expired")

    def test_leaves_the_others(self, shop):
        shop.submit()
        assert sweeper_of(shop).expire() == 0


class TestPurge:
    def test_removes_what_a_deleted_image_left(self, shop):
        attempt, neighbour = shop.run(), shop.run()
        shop.images.delete(attempt.claim.image_id, "ada")
        assert sweeper_of(shop).purge() == 1
        shop.assert_whole(neighbour.claim)

    def test_removes_what_a_failed_attempt_had_stored(self, shop):
        class Filling(MemoryStorage):
            def put(self, key, source, *, content_type):
                if "large" in key:
                    raise an_error(CorruptImageError)
                return shop.storage.put(key, source, content_type=content_type)

        attempt = shop.attempt()
        shop.runner_on(Filling()).run(attempt)
        assert shop.outcome(attempt)[:2] == ("failed", "rejected")
        assert len(list(shop.storage.keys(""))) == 2
        assert sweeper_of(shop).purge() == 1
        assert list(shop.storage.keys("")) == []

    def test_removes_what_a_zombie_wrote_after_the_delete(self, shop):
        engine = FakeEngine(is_held=True)
        attempt = shop.attempt(engine)
        thread = threading.Thread(target=shop.runner.run, args=(attempt,))
        thread.start()
        assert engine.has_started.wait(PATIENCE_SECONDS)
        shop.images.delete(attempt.claim.image_id, "ada")
        engine.release()
        thread.join(PATIENCE_SECONDS)
        assert len(list(shop.storage.keys(""))) == 4, "it stored before it heard of the cancel"
        assert sweeper_of(shop).purge() == 1
        assert list(shop.storage.keys("")) == []
        assert sweeper_of(shop).purge() == 0

    def test_waits_for_the_grace_in_which_a_worker_may_still_write(self, tmp_path):
        shop = Workshop(tmp_path, MemoryStorage(), grace_seconds=900.0)
        attempt = shop.run()
        shop.images.delete(attempt.claim.image_id, "ada")
        assert sweeper_of(shop).purge() == 0
        shop.close()

    def test_one_that_cannot_be_removed_holds_up_no_other(self, shop):
        class Stubborn:
            def delete(self, key):
                if stuck.claim.image_id in key:
                    raise UnavailableError("The folder is not there.")
                return shop.storage.delete(key)

        stuck, other = shop.run(), shop.run()
        for attempt in (stuck, other):
            shop.images.delete(attempt.claim.image_id, "ada")
        assert sweeper_of(shop, storage=Stubborn()).purge() == 1
        assert all(stuck.claim.image_id in key for key in shop.storage.keys(""))
        shop.execute("update images set purging_until = 0 where purging_until is not null")
        assert sweeper_of(shop).purge() == 1
        assert list(shop.storage.keys("")) == []

    def test_leaves_a_finished_image_alone(self, shop):
        attempt = shop.run()
        assert sweeper_of(shop).purge() == 0
        shop.assert_whole(attempt.claim)

    def test_a_sweeper_that_was_frozen_for_longer_than_its_lease_removes_nothing(self, shop, clock):
        """Another one has come to the end of the purge meanwhile, and the job has been replayed."""
        failed = shop.attempt(FailingEngine(an_error(StorageError)), max_retries=0)
        shop.runner.run(failed)
        frozen = shop.images

        class Freezing:
            def purgeable(self, *given, **named):
                purges = frozen.purgeable(*given, **named)
                if purges:
                    clock.run(700)
                    frozen.mark_purged(failed.claim.image_id)
                    assert shop.jobs.replay(failed.claim.job_id, user_id="ada")
                    shop.runner.run(Attempt(shop.claim(), FakeEngine()))
                return purges

        assert sweeper_of(shop, images=Freezing()).purge() == 0
        shop.assert_whole(failed.claim)

    def test_takes_the_original_of_a_deleted_dead_letter(self, shop):
        attempt = shop.run(FailingEngine(an_error(UnavailableError)))
        shop.images.delete(attempt.claim.image_id, "ada")
        assert shop.outcome(attempt)[:2] == ("failed", "cancelled")
        sweeper_of(shop).purge()
        assert shop.staged() == []


class TestSweepStage:
    def stage_orphan(self, shop):
        orphan = shop.stage.path("orphan")
        orphan.write_bytes(PICTURE)
        return orphan

    def test_removes_an_old_file_that_no_job_knows(self, shop):
        orphan = self.stage_orphan(shop)
        make_old(orphan)
        assert sweeper_of(shop).sweep_stage() == 1
        assert not orphan.exists()

    def test_leaves_a_young_file_to_the_upload_that_may_be_writing_it(self, shop):
        orphan = self.stage_orphan(shop)
        make_old(orphan, ORPHAN_SECONDS - 60)
        assert sweeper_of(shop).sweep_stage() == 0
        assert orphan.exists()

    @pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.RETRYING])
    def test_never_removes_what_a_live_job_needs(self, shop, status):
        if status is Status.PENDING:
            shop.submit()
        elif status is Status.PROCESSING:
            shop.attempt()
        else:
            shop.run(FailingEngine(an_error(UnavailableError)))
        (staged,) = shop.staged()
        make_old(shop.stage.path(staged), 10 * ORPHAN_SECONDS)
        assert sweeper_of(shop).sweep_stage() == 0
        assert shop.staged() == [staged]

    def test_never_removes_what_a_dead_letter_may_be_replayed_with(self, shop):
        engine = FailingEngine(an_error(StorageError))
        attempt = shop.run(engine, max_retries=0)
        assert shop.outcome(attempt)[:2] == ("failed", "exhausted")
        make_old(shop.stage.path(attempt.claim.staging_path))
        assert sweeper_of(shop).sweep_stage() == 0
        assert shop.jobs.replay(attempt.claim.job_id, user_id="ada")
        again = Attempt(shop.claim(), FakeEngine())
        shop.runner.run(again)
        shop.assert_whole(again.claim)

    def test_removes_what_a_completed_job_could_not(self, shop):
        attempt = shop.run()
        left = shop.stage.path(attempt.claim.staging_path)
        left.write_bytes(b"its removal had failed")
        make_old(left)
        assert sweeper_of(shop).sweep_stage() == 1
        assert shop.staged() == []

    def test_removes_what_a_cancelled_job_left(self, shop):
        receipt = shop.submit()
        shop.jobs.cancel(receipt.job_id, "ada")
        make_old(shop.stage.path(shop.staged()[0]))
        assert sweeper_of(shop).sweep_stage() == 1


class TestSweepScratch:
    def folder(self, shop, name, seconds):
        folder = shop.scratch / name
        folder.mkdir()
        (folder / "half.webp").write_bytes(b"half")
        make_old(folder, seconds)
        return folder

    def test_removes_what_killed_workers_left_and_nothing_younger(self, shop):
        old = self.folder(shop, "old", ORPHAN_SECONDS + 60)
        young = self.folder(shop, "young", ORPHAN_SECONDS - 60)
        assert sweeper_of(shop).sweep_scratch() == 1
        assert not old.exists()
        assert young.exists()

    def test_sweeps_the_half_written_files_of_the_storage(self, tmp_path):
        storage = LocalStorage(tmp_path / "storage")
        shop = Workshop(tmp_path, storage)
        incoming = tmp_path / "storage" / ".incoming"
        for name, age in (("old.part", ORPHAN_SECONDS + 60), ("young.part", ORPHAN_SECONDS - 60)):
            (incoming / name).write_bytes(b"half")
            make_old(incoming / name, age)
        assert sweeper_of(shop, sweeps=(storage.sweep_incoming,)).sweep_scratch() == 1
        assert [path.name for path in incoming.iterdir()] == ["young.part"]
        shop.close()

    def test_a_folder_that_vanishes_under_its_hands_is_no_failure(self, shop, monkeypatch):
        old = self.folder(shop, "old", ORPHAN_SECONDS + 60)
        gone = shop.scratch / "gone"
        monkeypatch.setattr(sweeping, "_entries", lambda _folder: [gone, old])
        assert sweeper_of(shop).sweep_scratch() == 1
        assert not old.exists()

    def test_a_missing_scratch_folder_is_no_failure(self, shop):
        shop.scratch.rmdir()
        assert sweeper_of(shop).sweep_scratch() == 0

    def test_a_running_attempt_keeps_its_folder(self, shop):
        engine = FakeEngine(is_held=True)
        attempt = shop.attempt(engine)
        thread = threading.Thread(target=shop.runner.run, args=(attempt,))
        thread.start()
        assert engine.has_started.wait(PATIENCE_SECONDS)
        sweeper_of(shop).sweep_scratch()
        assert engine.requests[0].output_directory.is_dir()
        attempt.end(Ending.STOPPED)
        thread.join(PATIENCE_SECONDS)


class TestPrune:
    def test_forgets_rows_after_their_retention_and_then_their_original(self, shop):
        attempt = shop.run(FailingEngine(an_error(StorageError)), max_retries=0)
        sweeper = sweeper_of(shop)
        sweeper.purge()
        assert sweeper.prune() == 0
        shop.execute("update processing_jobs set completed_at = '2020-01-01T00:00:00.000Z'")
        assert sweeper.prune() == 1
        assert shop.jobs.job(attempt.claim.job_id, "ada") is None
        make_old(shop.stage.path(attempt.claim.staging_path))
        assert sweeper.sweep_stage() == 1
        assert shop.staged() == []

    def test_keeps_what_can_be_served(self, shop):
        attempt = shop.run()
        shop.execute("update processing_jobs set completed_at = '2020-01-01T00:00:00.000Z'")
        assert sweeper_of(shop).prune() == 0
        shop.assert_whole(attempt.claim)

    def test_forgets_old_windows_of_the_rate_limit(self, shop):
        insert = (
            "insert into upload_rate_limits (user_id, window_start, upload_count) values ('ada', :start, 1)"
        )
        shop.execute(insert, start="2020-01-01T00:00:00.000Z")
        shop.execute(insert, start="2999-01-01T00:00:00.000Z")
        sweeper_of(shop).prune()
        with shop.database.read() as connection:
            rows = connection.exec_driver_sql("select window_start from upload_rate_limits").scalars().all()
        assert rows == ["2999-01-01T00:00:00.000Z"]


class TestSweepOutputs:
    def sweep_of(self, shop):
        return OutputSweep(shop.storage, StrayRepository(shop.database))

    def store_late(self, shop, attempt):
        """What a worker does that was frozen for longer than anybody waits."""
        source = shop.folder / "late"
        source.write_bytes(b"late")
        key = variant_keys(attempt.claim)["thumbnail"]
        shop.storage.put(key, source, content_type="image/webp")
        return key

    @pytest.mark.parametrize("end", ["deleted", "failed"])
    def test_removes_what_was_stored_after_the_purge(self, shop, end):
        if end == "deleted":
            attempt = shop.run()
            shop.images.delete(attempt.claim.image_id, "ada")
        else:
            attempt = shop.run(FailingEngine(an_error(StorageError)), max_retries=0)
        served, sweeper = shop.run(), sweeper_of(shop)
        assert sweeper.purge() == 1
        self.store_late(shop, attempt)
        assert self.sweep_of(shop).turn() == 1
        assert sweeper.purge() == 1
        shop.assert_whole(served.claim)

    def test_touches_nothing_that_is_served_waits_or_belongs_to_others(self, shop):
        served, waiting = shop.run(), shop.attempt()
        late = self.store_late(shop, waiting)
        foreign = f"holiday/processed/thumbnail/{new_id()}_thumbnail.webp"
        shop.storage.put(foreign, shop.folder / "late", content_type="image/webp")
        before = set(shop.storage.keys(""))
        assert {late, foreign} < before
        assert self.sweep_of(shop).turn() == 0
        assert sweeper_of(shop).purge() == 0
        assert set(shop.storage.keys("")) == before
        assert {variant.key for variant in shop.variants(served.claim).values()} < before

    def test_a_dead_letter_that_is_replayed_meanwhile_keeps_what_it_makes(self, shop):
        attempt = shop.run(FailingEngine(an_error(StorageError)), max_retries=0)
        sweeper_of(shop).purge()
        self.store_late(shop, attempt)
        sweep = self.sweep_of(shop)
        assert sweep.turn() == 1
        assert shop.jobs.replay(attempt.claim.job_id, user_id="ada")
        assert sweeper_of(shop).purge() == 0
        again = Attempt(shop.claim(), FakeEngine())
        shop.runner.run(again)
        shop.assert_whole(again.claim)

    def test_looks_past_what_waits_to_be_accepted(self, shop):
        attempt = shop.run()
        shop.images.delete(attempt.claim.image_id, "ada")
        sweeper_of(shop).purge()
        (shop.folder / "late").write_bytes(b"late")
        waiting = f"{INCOMING}/direct/{attempt.claim.image_id}"
        shop.storage.put(waiting, shop.folder / "late", content_type="image/webp")
        assert self.sweep_of(shop).turn() == 0
        assert list(shop.storage.keys("")) == [waiting]

    def test_goes_on_where_it_stopped_and_rests_at_the_end(self, shop, monkeypatch):
        monkeypatch.setattr(outputs, "KEYS_PER_TURN", 3)
        attempts = [shop.run() for _ in range(2)]
        for attempt in attempts:
            shop.images.delete(attempt.claim.image_id, "ada")
        shop.execute("update images set purge_after = null")
        sweep = self.sweep_of(shop)
        assert sum(sweep.turn() for _ in range(3)) == 2
        shop.execute("update images set purge_after = null")
        assert sweep.turn() == 0, "it begins anew a day later"

    def test_begins_anew_after_a_listing_that_broke_off(self, shop):
        class Flaky:
            has_failed = False

            def keys(self, prefix):
                if not self.has_failed:
                    self.has_failed = True
                    raise UnavailableError("The folder is not there.")
                    yield
                yield from shop.storage.keys(prefix)

        attempt = shop.run()
        shop.images.delete(attempt.claim.image_id, "ada")
        shop.execute("update images set purge_after = null")
        sweep = OutputSweep(Flaky(), StrayRepository(shop.database))
        with pytest.raises(UnavailableError):
            sweep.turn()
        assert sweep.turn() == 1

    def test_is_a_step_where_it_is_wanted(self, shop):
        attempt = shop.run()
        shop.images.delete(attempt.claim.image_id, "ada")
        sweeper_of(shop).purge()
        self.store_late(shop, attempt)
        sweeper_of(shop, strays=StrayRepository(shop.database)).clean()
        assert "sweeper.sweep_outputs" in shop.events_told()
