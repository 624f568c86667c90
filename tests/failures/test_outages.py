"""Storages and folders that are away for a while, and workers that die between two writes."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from image_processor.errors import StorageFullError, UnavailableError
from image_processor.jobs import Status
from image_processor.locations import Locations
from image_processor.maintenance import Sweeper
from image_processor.originals import FetchTurns, Originals
from image_processor.outbound import Outbound
from image_processor.pipeline import Limits
from image_processor.runner import Attempt, Places
from image_processor.storage.local import LocalStorage
from image_processor.testing.fake_engine import FakeEngine
from integration.test_worker import WorkerProcess, wait_until
from integration.workshop import PATIENCE_SECONDS, PICTURE, WEB, Workshop, in_thread

HOUR = 3600.0
DAY = 24 * HOUR

FREE = FetchTurns(2, lambda _user_id: False)


@pytest.fixture
def shop(tmp_path):
    with closing(Workshop(tmp_path, LocalStorage(tmp_path / "storage"), grace_seconds=0.0)) as shop:
        yield shop


def pass_time(shop, seconds):
    """The database's clock is not ours to set: all that it is held against comes so much nearer."""
    shop.execute(
        f"update processing_jobs set run_at = run_at - {seconds}, expires_at = expires_at - {seconds}"
    )


def live_through(shop, receipt, seconds, step):
    """Attempts at a job as they fall due in so much time, looked for every `step`; how many."""
    attempts, passed = 0, 0.0
    while passed + step <= seconds:
        claim = shop.jobs.claim("worker-1", 60.0)
        if claim is not None:
            shop.runner.run(Attempt(claim, FakeEngine()))
            attempts += 1
        shop.recovery.expire()
        row = shop.job_row(receipt.job_id)
        if row["status"] != "retrying":
            break
        assert (row["attempt_count"], row["crash_count"]) == (0, 0), "an outage is not the job's fault"
        pass_time(shop, step)
        passed += step
    return attempts


class Away(LocalStorage):
    """One whose disk is full, for as long as that is said."""

    is_full = False

    def put(self, key, source, *, content_type):
        if self.is_full:
            raise StorageFullError("The disk is full.")
        return super().put(key, source, content_type=content_type)


@pytest.mark.parametrize(
    ("seconds", "step"), [(90.0, 10.0), (DAY - HOUR, DAY / 12)], ids=["90 s", "almost its time to live"]
)
def test_no_storage_that_was_away_for_less_than_the_time_to_live_makes_a_dead_letter(shop, seconds, step):
    root, elsewhere = shop.folder / "storage", shop.folder / "elsewhere"
    receipt = shop.submit()
    root.rename(elsewhere)
    assert live_through(shop, receipt, seconds, step) > 4, "more than all the attempts that a job has"
    elsewhere.rename(root)
    pass_time(shop, 60)
    shop.runner.run(Attempt(shop.claim(), FakeEngine()))
    assert shop.job_row(receipt.job_id)["attempt_count"] == 1
    shop.assert_whole(receipt)
    assert shop.staged() == []


def test_an_outage_that_outlasts_the_time_to_live_ends_as_expired(shop):
    receipt = shop.submit()
    (shop.folder / "storage").rename(shop.folder / "elsewhere")
    live_through(shop, receipt, 2 * DAY, 4 * HOUR)
    row = shop.job_row(receipt.job_id)
    assert (row["status"], row["reason"]) == ("failed", "expired")
    assert "volume" in row["last_error"], "it says what it waited for"
    assert shop.jobs.replay(receipt.job_id, user_id="ada")


def test_a_full_storage_makes_no_dead_letter_either(shop):
    storage = Away(shop.folder / "storage")
    shop.runner = shop.runner_on(storage)
    receipt = shop.submit()
    storage.is_full = True
    assert live_through(shop, receipt, 900, 90) > 4
    storage.is_full = False
    pass_time(shop, 120)
    shop.runner.run(Attempt(shop.claim(), FakeEngine()))
    shop.assert_whole(receipt)


@pytest.mark.parametrize("away", ["input", "output"])
def test_nor_does_a_folder_of_the_users_that_is_not_mounted(shop, tmp_path, away):
    inputs, outputs = tmp_path / "input", tmp_path / "output"
    for folder in (inputs, outputs):
        folder.mkdir()
    (inputs / "photo.jpg").write_bytes(PICTURE)
    locations = Locations(
        file_roots=(inputs, outputs),
        outbound=Outbound(),
        buckets=lambda _name: shop.storage,
        fetch_timeout_seconds=5.0,
    )
    shop.runner = replace(
        shop.runner,
        originals=Originals(
            stage=shop.stage, locations=locations, accepts=WEB.accepts, limits=Limits(), turns=FREE
        ),
        places=Places(storage=shop.storage, locations=locations),
    )
    one = WEB.pipeline
    receipt = shop.submit(
        pipeline=one.model_copy(update={"variants": one.variants[:1]}),
        source_uri=f"file://{inputs}/photo.jpg",
        output_uri=f"file://{outputs}/photo.webp",
        staging_path="fetched",
        source_format=None,
    )
    (tmp_path / away).rename(tmp_path / "elsewhere")
    assert live_through(shop, receipt, 90, 12) > 4
    (tmp_path / "elsewhere").rename(tmp_path / away)
    pass_time(shop, 60)
    shop.runner.run(Attempt(shop.claim(), FakeEngine()))
    row = shop.job_row(receipt.job_id)
    assert (row["status"], row["attempt_count"]) == ("completed", 1), row["last_error"]
    assert (outputs / "photo.webp").exists()


def test_an_outage_in_a_storage_of_another_kind_is_snoozed_by_its_class(shop):
    class Down(LocalStorage):
        def put(self, key, source, *, content_type):
            raise UnavailableError("The storage does not answer.")

    shop.runner = shop.runner_on(Down(shop.folder / "storage"))
    attempt = shop.run()
    assert shop.outcome(attempt) == ("retrying", None, 0)


# Between the put and the commit


@pytest.fixture
def start_worker(tmp_path):
    started = []

    def start(fault=""):
        gate = tmp_path / "gate"
        gate.touch()
        started.append(DyingWorker(tmp_path, gate, LEASE_SECONDS="1", DIES_AT=fault))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


class DyingWorker(WorkerProcess):
    """A real worker that ends itself, as by `kill -9`, at a point of its work."""

    def __init__(self, folder, gate, **environment):
        faults = str(Path(__file__).with_name("faults"))
        super().__init__(folder, gate, PYTHONPATH=faults, **environment)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["second-put", "commit"])
def test_a_worker_that_dies_with_its_outputs_stored_leaves_nothing_but_them(shop, start_worker, point):
    """Its successor writes the same keys, and no reader saw any of them before."""
    receipt = shop.submit()
    dying = start_worker(point)
    assert dying.exit_code() == -9
    stored = set(shop.storage.keys(""))
    assert len(stored) == {"second-put": 1, "commit": 4}[point]
    assert shop.variants(receipt) == {}
    assert shop.job_row(receipt.job_id)["status"] == "processing"
    start_worker().wait_for("job.completed")
    shop.assert_whole(receipt)
    assert stored <= set(shop.storage.keys(""))
    row = shop.job_row(receipt.job_id)
    assert (row["attempt_count"], row["crash_count"]) == (2, 1)
    assert shop.completions(receipt) == 1


@pytest.mark.slow
def test_what_nobody_wants_after_that_is_removed(shop, start_worker):
    receipt = shop.submit()
    assert start_worker("commit").exit_code() == -9
    assert set(shop.storage.keys(""))
    shop.jobs.cancel(receipt.job_id, "ada")
    shop.recovery.reap_worker(shop.job_row(receipt.job_id)["worker_id"])
    assert shop.job_row(receipt.job_id)["reason"] == "cancelled"
    Sweeper(shop.house()).clean()
    assert list(shop.storage.keys("")) == []


# A delete in the middle of a put


class Held(LocalStorage):
    """Waits before one of its puts until it may go on."""

    def __init__(self, root, number):
        super().__init__(root)
        self._left = number
        self.is_reached = threading.Event()
        self.may_go_on = threading.Event()

    def put(self, key, source, *, content_type):
        if self._left == 0:
            self.is_reached.set()
            assert self.may_go_on.wait(PATIENCE_SECONDS)
        self._left -= 1
        return super().put(key, source, content_type=content_type)


@pytest.mark.parametrize("is_swept_meanwhile", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_nothing_is_left_of_an_image_that_is_deleted_while_it_is_stored(shop, number, is_swept_meanwhile):
    held = Held(shop.folder / "storage", number)
    attempt = shop.attempt()
    with in_thread(shop.runner_on(held).run, attempt):
        assert held.is_reached.wait(PATIENCE_SECONDS)
        assert shop.images.delete(attempt.claim.image_id, "ada") is not None
        if is_swept_meanwhile:
            Sweeper(shop.house()).clean()
        held.may_go_on.set()
    assert shop.outcome(attempt) == (Status.FAILED, "cancelled", 1)
    Sweeper(shop.house()).clean()
    assert list(shop.storage.keys("")) == []
    assert shop.images.image(attempt.claim.image_id, "ada") is None
    wait_until(lambda: shop.staged() == [])
