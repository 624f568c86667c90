"""Originals that wait in a storage: two machines share a database and a storage, and no folder."""

import os
import threading
import time
from dataclasses import dataclass, replace
from functools import partial

import pytest

from fault_proxy import FaultProxy, Mode
from image_processor.api.app import create_app
from image_processor.errors import (
    EngineError,
    InvalidRequestError,
    StorageDamageError,
    StorageDownError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from image_processor.intake.shared_stage import PREFIX, SharedStage
from image_processor.jobs import NewJob
from image_processor.locations import Locations
from image_processor.maintenance import Sweeper
from image_processor.maintenance.sweeper import ORPHAN_SECONDS, SHARED_ORPHAN_SECONDS
from image_processor.originals import Originals
from image_processor.outbound import Outbound
from image_processor.pipeline import Limits
from image_processor.runner import Attempt, Ending
from image_processor.service import ImageService, Intake, Submission
from image_processor.settings import Settings
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing import sample_images
from image_processor.testing.fake_engine import FakeEngine
from image_processor.transports.embedded import EmbeddedTransport
from integration.api.front import Front, assert_refused, upload
from integration.workshop import (
    FREE,
    PATIENCE_SECONDS,
    PICTURE,
    UNLIMITED,
    WEB,
    BusyEngine,
    FailingEngine,
    Workshop,
    an_error,
    in_thread,
)
from web_server import answer, serving

ME = Submission(user_id="ada", bucket="holiday")
OTHER_PICTURE = sample_images.photo(200, 100)


def wanted():
    """Somebody still wants it."""


class Weathered:
    """A storage whose methods can be made to fail."""

    def __init__(self, storage):
        self.storage = storage
        self.failing = {}

    def __getattr__(self, name):
        if name in self.failing:
            return self._fail(self.failing[name])
        return getattr(self.storage, name)

    def _fail(self, error):
        def fail(*_given, **_named):
            raise error

        return fail


@dataclass
class Machine:
    """A computer with a stage of its own: it takes uploads in, works and sweeps."""

    shop: Workshop
    stage: SharedStage

    def __post_init__(self):
        locations = Locations(
            file_roots=(),
            outbound=Outbound(
                private_networks=Settings(private_networks="127.0.0.0/8", _env_file=None).private_networks
            ),
            buckets={}.__getitem__,
            fetch_timeout_seconds=PATIENCE_SECONDS,
        )
        self.originals = Originals(
            stage=self.stage, locations=locations, accepts=WEB.accepts, limits=Limits(), turns=FREE
        )
        self.runner = replace(self.shop.runner, originals=self.originals)
        self.sweeper = Sweeper(self.shop.house(stage=self.stage))
        self.service = ImageService(
            jobs=self.shop.jobs,
            image_rows=self.shop.images,
            rate_limits=self.shop.rate_limits,
            stage=self.stage,
            storage=self.shop.storage,
            transport=EmbeddedTransport(),
            dispatch=self.shop.dispatch,
            intake=Intake(
                accepts=WEB.accepts,
                limits=Limits(),
                presets={"web": WEB},
                rate_limit=UNLIMITED,
                job_ttl_seconds=3600.0,
                max_retries=3,
                idempotency_seconds=3600.0,
                joins_duplicates=True,
                check_callback=str,
            ),
        )

    def staged(self, picture=PICTURE):
        file = self.service.open_upload("ada")
        file.write(picture)
        return file.finish()

    def submit(self, picture=PICTURE, submission=ME):
        return self.service.submit(self.staged(picture), submission)

    def attempt(self, engine=None):
        return Attempt(self.shop.claim(), engine or FakeEngine())

    def work(self, engine=None):
        attempt = self.attempt(engine)
        self.runner.run(attempt)
        return attempt

    def take(self, claim, check_wanted=wanted):
        return self.originals.take(claim, check_wanted)

    def files(self):
        return sorted(path.name for path in self.stage.directory.iterdir())


@pytest.fixture
def incoming(tmp_path):
    return Weathered(LocalStorage(tmp_path / "incoming"))


@pytest.fixture
def shop(tmp_path):
    shop = Workshop(tmp_path, MemoryStorage(), grace_seconds=0.0)
    yield shop
    shop.close()


@pytest.fixture
def new_machine(tmp_path, shop, incoming):
    return lambda name: Machine(shop, SharedStage(tmp_path / name, incoming))


@pytest.fixture
def front(new_machine):
    return new_machine("front")


@pytest.fixture
def worker(new_machine):
    return new_machine("worker")


def waiting(incoming):
    return sorted(key.removeprefix(PREFIX) for key in incoming.storage.keys(""))


def make_old(path, seconds=ORPHAN_SECONDS + 60):
    then = time.time() - seconds
    os.utime(path, (then, then))


def age(shop, seconds):
    """Let everything in the storage have been put there that long ago."""
    for path in (shop.folder / "incoming" / PREFIX).iterdir():
        make_old(path, seconds)


class TestTwoMachines:
    def test_an_attempt_that_fails_leaves_no_copy(self, front, worker):
        front.submit()
        worker.work(FailingEngine(an_error(StorageError)))
        assert worker.files() == []

    def test_what_one_takes_in_the_other_processes_and_nothing_stays(self, shop, incoming, front, worker):
        receipt = front.submit()
        assert front.files() == []
        assert len(waiting(incoming)) == 1
        attempt = worker.work()
        assert shop.outcome(attempt)[0] == "completed"
        shop.assert_whole(receipt)
        assert (front.files(), worker.files(), waiting(incoming)) == ([], [], [])

    def test_a_retry_may_come_to_another_machine(self, shop, incoming, front, worker, new_machine):
        receipt = front.submit()
        attempt = worker.work(FailingEngine(an_error(StorageError)))
        assert shop.outcome(attempt)[0] == "retrying"
        shop.execute("update processing_jobs set run_at = 0")
        new_machine("third").work()
        shop.assert_whole(receipt)
        assert waiting(incoming) == []

    def test_what_was_staged_before_there_was_a_storage_is_processed_where_it_lies(self, shop, front):
        """STORAGE_BACKEND was changed while jobs waited."""
        shop.stage = front.stage
        receipt = shop.submit()
        front.work()
        shop.assert_whole(receipt)
        assert front.files() == []

    def test_two_attempts_at_once_have_a_copy_each(self, front, worker):
        front.submit()
        claim = worker.shop.claim()
        first, second = worker.take(claim), worker.take(claim)
        assert len(worker.files()) == 2
        worker.originals.release(claim, first)
        assert worker.files() == [second.name]
        assert worker.originals.path(second).read_bytes() == PICTURE

    def test_the_end_of_one_that_lost_its_job_harms_not_the_next(self, shop, incoming, front, worker):
        """Both on one machine, and the first fails while the second renders."""
        receipt, late = front.submit(), FakeEngine(is_held=True)
        zombie = worker.attempt(late)
        with in_thread(worker.runner.run, zombie):
            assert late.has_started.wait(PATIENCE_SECONDS)
            zombie.end(Ending.LOST)
            next_one = shop.take_over(zombie)
            engine = FakeEngine(is_held=True)
            with in_thread(worker.runner.run, Attempt(next_one.claim, engine)):
                assert engine.has_started.wait(PATIENCE_SECONDS)
                late.release()
                assert engine.requests[0].source.read_bytes() == PICTURE
                engine.release()
        shop.assert_whole(receipt)
        assert waiting(incoming) == []

    def test_a_late_one_still_reads_what_the_next_has_finished_with(self, shop, incoming, front, worker):
        """On one machine: what is open stays readable after its name is gone."""
        receipt = front.submit()
        zombie = worker.attempt()
        original = worker.take(zombie.claim)
        with worker.originals.path(original).open("rb") as file:
            worker.runner.run(shop.take_over(zombie))
            assert file.read() == PICTURE
        assert (worker.files(), waiting(incoming)) == ([], [])
        with pytest.raises(StorageError, match="not there"):
            worker.take(zombie.claim)
        shop.assert_whole(receipt)

    def test_a_worker_that_was_killed_leaves_a_copy_that_is_swept(self, shop, incoming, front, worker):
        front.submit()
        killed = worker.attempt()
        worker.take(killed.claim)
        (copy,) = worker.files()
        assert worker.sweeper.sweep_stage() == 0, "it may be read"
        make_old(worker.stage.path(copy))
        assert worker.sweeper.sweep_stage() == 1
        assert worker.files() == []
        assert waiting(incoming) == [killed.claim.staging_path], "the job still needs it"
        front.runner.run(shop.take_over(killed))
        shop.assert_whole(killed.claim)

    def test_a_copy_is_released_and_what_came_from_an_address_is_kept(self, front, worker):
        front.submit()
        claim = worker.shop.claim()
        worker.originals.release(claim, worker.take(claim))
        assert worker.files() == []
        worker.originals.release(claim, worker.take(claim))
        with serving({"/a": answer(PICTURE)}) as server:
            fetched = replace(claim, source_uri=f"http://127.0.0.1:{server.port}/a")
            worker.originals.release(fetched, worker.take(fetched))
        assert worker.files() == [claim.staging_path]


class TestDeletion:
    def test_while_it_is_processed_takes_everything(self, shop, incoming, front, worker):
        receipt, engine = front.submit(), FakeEngine(is_held=True)
        attempt = worker.attempt(engine)
        with in_thread(worker.runner.run, attempt):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            front.service.delete("ada", receipt.image_id)
            attempt.end(Ending.CANCELLED)
        assert shop.outcome(attempt)[:2] == ("failed", "cancelled")
        assert (worker.files(), waiting(incoming)) == ([], [])
        front.sweeper.clean()
        assert list(shop.storage.keys("")) == []

    def test_that_a_zombie_does_not_hear_of_takes_everything(self, shop, incoming, front, worker):
        receipt = front.submit()
        delete = partial(front.service.delete, "ada", receipt.image_id)
        attempt = worker.work(BusyEngine(delete))
        assert len(list(shop.storage.keys(""))) == 4, "it stored before it heard of it"
        front.sweeper.clean()
        assert (list(shop.storage.keys("")), waiting(incoming)) == ([], [])
        for left in worker.files():
            make_old(worker.stage.path(left))
        worker.sweeper.sweep_stage()
        assert worker.files() == []
        assert shop.outcome(attempt)[:2] == ("failed", "cancelled")

    def test_of_a_waiting_job_in_an_outage_is_made_good_later(self, shop, incoming, front):
        receipt = front.submit()
        front.service.delete("ada", receipt.image_id)
        incoming.failing["delete"] = an_error(StorageDownError)
        assert front.sweeper.purge() == 0
        assert len(waiting(incoming)) == 1
        incoming.failing.clear()
        shop.execute("update images set purging_until = 0")
        assert front.sweeper.purge() == 1
        assert waiting(incoming) == []


class TestSubmit:
    def test_in_an_outage_makes_no_job_and_leaves_nothing(self, shop, incoming, front):
        incoming.failing = dict.fromkeys(("put", "delete"), an_error(StorageDownError))
        with pytest.raises(StorageDownError):
            front.submit()
        assert front.files() == []
        assert shop.jobs.claim("worker", 60.0) is None

    def test_what_is_refused_never_comes_to_the_storage(self, incoming, front):
        incoming.failing = dict.fromkeys(("put", "delete"), an_error(StorageDownError))
        with pytest.raises(InvalidRequestError):
            front.submit(submission=replace(ME, preset="unknown"))
        assert front.files() == []

    def test_a_duplicate_leaves_one_original(self, incoming, front, worker):
        first, second = front.submit(), front.submit()
        assert second.joined
        assert second.job_id == first.job_id
        assert len(waiting(incoming)) == 1
        worker.work()
        assert waiting(incoming) == []

    def test_a_duplicate_that_cannot_be_removed_is_answered_and_swept(self, shop, incoming, front):
        front.submit()
        incoming.failing["delete"] = an_error(StorageDownError)
        assert front.submit().joined
        incoming.failing.clear()
        assert len(waiting(incoming)) == 2
        age(shop, SHARED_ORPHAN_SECONDS + 60)
        assert front.sweeper.sweep_shared_stage() == 1
        assert len(waiting(incoming)) == 1

    def test_where_the_commit_may_have_happened_the_sweeper_decides(self, shop, incoming, front):
        with shop.write_lock(), pytest.raises(UnavailableError):
            front.submit()
        assert front.files() == []
        assert len(waiting(incoming)) == 1
        age(shop, SHARED_ORPHAN_SECONDS - 60)
        assert front.sweeper.sweep_shared_stage() == 0
        age(shop, SHARED_ORPHAN_SECONDS + 60)
        assert front.sweeper.sweep_shared_stage() == 1
        assert waiting(incoming) == []

    def test_a_storage_that_took_other_bytes_gets_no_job(self, incoming, front):
        class Lossy:
            def put(self, key, source, *, content_type):
                source.write_bytes(source.read_bytes()[:-1])
                return incoming.put(key, source, content_type=content_type)

            def delete(self, key):
                return incoming.delete(key)

        machine = Machine(front.shop, SharedStage(front.stage.directory, Lossy()))
        with pytest.raises(StorageDamageError):
            machine.submit()
        assert (machine.files(), waiting(incoming)) == ([], [])

    def test_over_http_an_outage_is_told_with_the_time_to_wait(self, tmp_path, incoming):
        incoming.failing["put"] = StorageDownError("The storage does not answer.", retry_after_seconds=17)
        front = Front(tmp_path / "http")
        stage = SharedStage(front.settings.staging, incoming)
        front.api = create_app(replace(front.app, service=replace(front.app.service, stage=stage)))
        refused = upload(front.client())
        assert_refused(refused, 503, "storage_down")
        assert refused.headers["Retry-After"] == "17"
        assert front.staged() == []
        front.close()


class TestFetch:
    def put(self, shop, incoming, name, content):
        path = shop.folder / "other"
        path.write_bytes(content)
        incoming.put(PREFIX + name, path, content_type="image/jpeg")

    @pytest.mark.parametrize(
        "content",
        [PICTURE[:-1], PICTURE + b"x", PICTURE[:-1] + b"x", b""],
        ids=["short", "long", "other", "no"],
    )
    def test_other_bytes_are_damage_and_leave_nothing(self, shop, incoming, front, worker, content):
        front.submit()
        (name,) = waiting(incoming)
        self.put(shop, incoming, name, content)
        attempt = worker.attempt()
        with pytest.raises(StorageDamageError):
            worker.take(attempt.claim)
        worker.runner.run(attempt)
        assert shop.outcome(attempt) == ("retrying", None, 1)
        assert worker.files() == []

    def test_an_original_that_vanished_costs_an_attempt(self, shop, incoming, front, worker):
        front.submit()
        incoming.delete(PREFIX + waiting(incoming)[0])
        attempt = worker.work()
        assert shop.outcome(attempt) == ("retrying", None, 1)
        error = shop.job_row(attempt.claim.job_id)["last_error"]
        assert error == "The staged original cannot be read: it is not there."
        assert worker.files() == []

    def test_an_outage_costs_nothing_and_is_waited_for(self, shop, incoming, front, worker):
        receipt = front.submit()
        incoming.failing["open"] = an_error(StorageDownError)
        attempt = worker.work()
        assert shop.outcome(attempt) == ("retrying", None, 0)
        incoming.failing.clear()
        shop.execute("update processing_jobs set run_at = 0")
        worker.work()
        shop.assert_whole(receipt)

    def test_one_that_breaks_off_leaves_nothing(self, shop, front):
        class Breaking:
            def open(self, key):
                file = front.stage._incoming.open(key)
                file.read = self.fail
                return file

            def fail(self, _size):
                raise StorageDownError("It fell silent.")

        front.submit()
        machine = Machine(shop, SharedStage(shop.folder / "there", Breaking()))
        with pytest.raises(StorageDownError):
            machine.take(shop.claim())
        assert machine.files() == []

    def test_one_that_nobody_wants_any_more_ends_between_chunks(self, front, worker):
        front.submit()
        seen = []

        def check_wanted():
            seen.append(worker.files())
            if len(seen) == 2:
                raise EngineError("The attempt was ended.")

        with pytest.raises(EngineError):
            worker.take(worker.shop.claim(), check_wanted)
        assert worker.files() == []

    def test_a_disk_that_is_nearly_full_takes_none_and_the_job_waits(self, shop, incoming, front):
        front.submit()
        stage = SharedStage(shop.folder / "there", incoming, min_free_bytes=2**62)
        machine = Machine(shop, stage)
        attempt = machine.attempt()
        with pytest.raises(StorageFullError):
            machine.take(attempt.claim)
        machine.runner.run(attempt)
        assert shop.outcome(attempt) == ("retrying", None, 0)
        assert machine.files() == []


class TestAddresses:
    """Jobs whose original comes from an address: it stays on the machine that fetched it."""

    def job(self, shop, server):
        job = NewJob(
            user_id="ada",
            bucket="holiday",
            preset="web",
            pipeline=WEB.pipeline,
            key_template=WEB.key_template,
            source_uri=f"http://127.0.0.1:{server.port}/a",
            staging_path=shop.stage.new_name(),
        )
        return shop.jobs.submit(job, UNLIMITED)

    def test_another_machine_fetches_anew_also_where_there_is_another_picture_now(self, shop, front, worker):
        with serving({"/a": answer(PICTURE)}) as server:
            receipt = self.job(shop, server)
            first = front.work(FailingEngine(an_error(StorageError)))
            assert shop.outcome(first)[0] == "retrying"
            assert front.files() == [first.claim.staging_path]
            server.answers["/a"] = answer(OTHER_PICTURE)
            shop.execute("update processing_jobs set run_at = 0")
            worker.work()
        shop.assert_whole(receipt)
        image = shop.images.image(receipt.image_id, "ada")
        assert image.source_bytes == len(OTHER_PICTURE)
        assert worker.files() == []
        make_old(front.stage.path(first.claim.staging_path))
        assert front.sweeper.sweep_stage() == 1
        assert front.files() == []


class TestSweeping:
    def test_never_removes_what_a_job_needs_or_may_be_replayed_with(self, shop, incoming, front, worker):
        front.submit()
        shop.execute("update processing_jobs set max_retries = 0")
        attempt = worker.work(FailingEngine(an_error(StorageError)))
        assert shop.outcome(attempt)[:2] == ("failed", "exhausted")
        front.submit(OTHER_PICTURE)
        age(shop, 30 * SHARED_ORPHAN_SECONDS)
        assert front.sweeper.sweep_shared_stage() == 0
        assert shop.jobs.replay(attempt.claim.job_id, user_id="ada")
        worker.work()
        worker.work()
        assert waiting(incoming) == []

    def test_removes_what_a_completed_job_could_not(self, shop, incoming, front, worker):
        front.submit()
        incoming.failing["delete"] = an_error(StorageDownError)
        attempt = worker.work()
        assert shop.outcome(attempt)[0] == "completed"
        assert shop.events_told("stage.remove.failed") == ["stage.remove.failed"]
        assert worker.files() == []
        incoming.failing.clear()
        age(shop, SHARED_ORPHAN_SECONDS + 60)
        front.sweeper.clean()
        assert waiting(incoming) == []

    def test_does_so_on_this_machine_also_in_an_outage(self, incoming, front):
        front.staged()
        make_old(front.stage.path(front.files()[0]))
        incoming.failing = dict.fromkeys(("delete", "objects"), an_error(StorageDownError))
        front.sweeper.clean()
        assert front.files() == []

    def test_asks_for_a_day_at_least(self, shop, incoming, front):
        front.submit()
        age(shop, SHARED_ORPHAN_SECONDS - 60)
        assert list(front.stage.shared_names_older_than(0.0)) == []

    def test_two_at_once_are_no_harm(self, shop, incoming, front, worker):
        for _ in range(20):
            front.stage.share(front.staged())
        age(shop, SHARED_ORPHAN_SECONDS + 60)
        both = threading.Barrier(2)

        def sweep(machine):
            both.wait(PATIENCE_SECONDS)
            machine.sweeper.sweep_shared_stage()

        with in_thread(sweep, front), in_thread(sweep, worker):
            pass
        assert waiting(incoming) == []


def bucket_behind(proxy, name):
    from image_processor.storage import S3Storage  # noqa: PLC0415 - an extra
    from image_processor.storage.s3 import S3Options  # noqa: PLC0415
    from s3_server import OWNER  # noqa: PLC0415

    options = S3Options(
        endpoint_url=f"http://127.0.0.1:{proxy.port}",
        access_key_id=OWNER["aws_access_key_id"],
        secret_access_key=OWNER["aws_secret_access_key"],
        addressing_style="path",
    )
    return S3Storage(name, options=options)


@pytest.mark.slow
def test_two_machines_share_a_real_bucket_through_an_outage_of_it(tmp_path, shop, s3, s3_bucket):
    with FaultProxy(s3.port) as proxy:
        bucket = bucket_behind(proxy, s3_bucket)
        front, worker = (Machine(shop, SharedStage(tmp_path / name, bucket)) for name in ("front", "worker"))
        receipt = front.submit()
        (kept,) = bucket.objects(PREFIX)
        name = shop.job_row(receipt.job_id)["staging_path"]
        assert (kept.key.removeprefix(PREFIX), kept.size_bytes) == (name, len(PICTURE))
        proxy.mode = Mode.REFUSE
        with pytest.raises(StorageDownError):
            front.submit(OTHER_PICTURE)
        attempt = worker.work()
        assert shop.outcome(attempt) == ("retrying", None, 0)
        assert (front.files(), worker.files()) == ([], [])
        proxy.mode = Mode.PASS
        shop.execute("update processing_jobs set run_at = 0")
        worker.work()
        shop.assert_whole(receipt)
        assert (front.files(), worker.files(), list(bucket.keys(PREFIX))) == ([], [], [])
