"""The runner on a real database and real storages: where each attempt leads, and what it leaves behind."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineError,
    EngineTimeoutError,
    ImageTooLargeError,
    StorageError,
    StorageFullError,
    UnavailableError,
    UnsupportedFormatError,
)
from image_processor.intake.probe import Header
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.pipeline import ImageFormat
from image_processor.runner import Attempt, Ending, Places, deadline_seconds
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing.fake_engine import FakeEngine
from integration.workshop import (
    PATIENCE_SECONDS,
    PICTURE,
    WEB,
    BusyEngine,
    FailingEngine,
    Workshop,
    an_error,
    in_thread,
)


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    return LocalStorage(tmp_path / "storage") if request.param == "local" else MemoryStorage()


@pytest.fixture
def shop(tmp_path, storage):
    shop = Workshop(tmp_path, storage)
    yield shop
    assert list(shop.scratch.iterdir() if shop.scratch.is_dir() else []) == []
    shop.close()


class SlowStorage:
    """A storage that waits inside the put of its second object."""

    def __init__(self, inner):
        self.inner = inner
        self.puts = 0
        self.has_reached_it = threading.Event()
        self.may_go_on = threading.Event()

    def put(self, key, source, *, content_type):
        self.puts += 1
        if self.puts == 2:
            self.has_reached_it.set()
            assert self.may_go_on.wait(PATIENCE_SECONDS)
        return self.inner.put(key, source, content_type=content_type)


class TestCompletion:
    def test_stores_every_variant_and_points_to_it(self, shop):
        attempt = shop.run()
        assert shop.outcome(attempt) == ("completed", None, 1)
        shop.assert_whole(attempt.claim)
        image = shop.images.image(attempt.claim.image_id, "ada")
        assert (image.width, image.height, image.frames) == (320, 240, 1)
        assert image.dominant_color == "#808080"
        assert {variant.content_type for variant in image.variants.values()} == {"image/webp"}
        assert image.variants["thumbnail"].key == (
            f"holiday/processed/thumbnail/{attempt.claim.image_id}_thumbnail.webp"
        )

    def test_leaves_neither_the_staged_file_nor_scratch(self, shop):
        shop.run()
        assert shop.staged() == []
        assert list(shop.scratch.iterdir()) == []

    def test_tells_that_it_completed(self, shop):
        attempt = shop.run()
        ((_, fields),) = [told for told in shop.told if told[0] == "job.completed"]
        assert fields["job_id"] == attempt.claim.job_id
        assert fields["seconds"] >= 0

    def test_hands_the_engine_the_staged_file_and_an_empty_folder(self, shop):
        engine = FakeEngine()
        attempt = shop.run(engine)
        (request,) = engine.requests
        assert request.source == shop.stage.path(attempt.claim.staging_path)
        assert request.output_directory.parent == shop.scratch
        assert request.source_format is ImageFormat.JPEG

    def test_a_second_attempt_writes_the_same_keys(self, shop):
        shop.runner.run(shop.attempt(FailingEngine(an_error(EngineError))))
        attempt = Attempt(shop.claim(), FakeEngine())
        shop.runner.run(attempt)
        assert shop.outcome(attempt) == ("completed", None, 2)
        shop.assert_whole(attempt.claim)

    def test_a_staged_file_that_cannot_be_removed_is_left_to_the_sweeper(self, shop):
        def make_it_a_folder():
            staged = shop.stage.path(shop.staged()[0])
            staged.unlink()
            (staged / "in the way").mkdir(parents=True)

        attempt = shop.run(BusyEngine(make_it_a_folder))
        assert shop.outcome(attempt) == ("completed", None, 1)
        assert shop.events_told("job.completed", "stage.remove.failed") == [
            "job.completed",
            "stage.remove.failed",
        ]


class TestErrors:
    @pytest.mark.parametrize("kind", [CorruptImageError, UnsupportedFormatError, ImageTooLargeError])
    def test_a_rejected_image_fails_at_once_and_is_not_kept(self, shop, kind):
        attempt = shop.run(FailingEngine(an_error(kind)))
        assert shop.outcome(attempt) == ("failed", "rejected", 1)
        row = shop.job_row(attempt.claim.job_id)
        assert (row["error_code"], row["last_error"]) == (kind.code, "The test says so.")
        assert shop.staged() == []
        assert list(shop.storage.keys("")) == []

    def test_an_original_whose_header_is_broken_is_rejected_without_the_engine(self, shop):
        engine = FakeEngine()
        attempt = shop.attempt(engine)
        shop.stage.path(attempt.claim.staging_path).write_bytes(PICTURE[:30])
        shop.runner.run(attempt)
        assert shop.outcome(attempt) == ("failed", "rejected", 1)
        assert engine.requests == []

    def test_a_transient_error_is_tried_again_and_keeps_the_original(self, shop):
        attempt = shop.run(FailingEngine(an_error(EngineError)))
        assert shop.outcome(attempt) == ("retrying", None, 1)
        assert shop.staged() == [attempt.claim.staging_path]
        assert shop.events_told("job.retried") == ["job.retried"]

    def test_transient_errors_exhaust_the_job(self, shop):
        engine = FailingEngine(an_error(EngineError), an_error(EngineError), an_error(EngineError))
        attempt = shop.run(engine, max_retries=2)
        for expected in (("retrying", None, 2), ("failed", "exhausted", 3)):
            shop.runner.run(Attempt(shop.claim(), engine))
            assert shop.outcome(attempt) == expected
        assert shop.staged() == [attempt.claim.staging_path], "a dead letter keeps its original"

    @pytest.mark.parametrize("kind", [UnavailableError, StorageFullError])
    def test_an_outage_costs_no_attempt(self, shop, kind):
        attempt = shop.run(FailingEngine(an_error(kind)))
        assert shop.outcome(attempt) == ("retrying", None, 0)
        row = shop.job_row(attempt.claim.job_id)
        assert row["error_code"] == kind.code
        assert shop.jobs.next_due_in() == pytest.approx(kind.retry_after_seconds, abs=1)
        assert shop.staged() == [attempt.claim.staging_path]

    def test_a_full_storage_costs_no_attempt(self, shop):
        attempt = shop.attempt()
        shop.runner_on(MemoryStorage(capacity_bytes=40)).run(attempt)
        assert shop.outcome(attempt) == ("retrying", None, 0)
        assert shop.job_row(attempt.claim.job_id)["error_code"] == "storage_full"

    def test_a_missing_scratch_folder_costs_no_attempt(self, shop):
        shop.scratch.rmdir()
        attempt = shop.run()
        assert shop.outcome(attempt) == ("retrying", None, 0)
        assert shop.job_row(attempt.claim.job_id)["error_code"] == "unavailable"

    def test_a_missing_original_is_a_storage_error(self, shop):
        attempt = shop.attempt()
        shop.stage.remove(attempt.claim.staging_path)
        shop.runner.run(attempt)
        assert shop.outcome(attempt) == ("retrying", None, 1)
        assert shop.job_row(attempt.claim.job_id)["error_code"] == "storage_error"

    def test_the_third_crash_is_poison(self, shop):
        engine = FailingEngine(*[an_error(EngineCrashedError)] * 3)
        attempt = shop.run(engine)
        crashes = []
        for _ in range(2):
            crashes.append((shop.outcome(attempt)[:2], shop.job_row(attempt.claim.job_id)["crash_count"]))
            shop.runner.run(Attempt(shop.claim(), engine))
        assert crashes == [(("retrying", None), 1), (("retrying", None), 2)]
        assert shop.outcome(attempt)[:2] == ("failed", "poison")

    def test_the_second_timeout_fails(self, shop):
        engine = FailingEngine(*[an_error(EngineTimeoutError)] * 2)
        attempt = shop.run(engine)
        assert shop.outcome(attempt) == ("retrying", None, 1)
        shop.runner.run(Attempt(shop.claim(), engine))
        assert shop.outcome(attempt) == ("failed", "exhausted", 2)

    def test_a_bug_costs_an_attempt_and_not_the_worker(self, shop):
        attempt = shop.run(FailingEngine(ValueError("a bug of ours")))
        assert shop.outcome(attempt) == ("retrying", None, 1)
        row = shop.job_row(attempt.claim.job_id)
        assert (row["error_code"], row["last_error"]) == (
            "engine_error",
            "Something went wrong on our side; it has been logged.",
        )
        logged = [fields["error"] for event, fields in shop.told if event == "attempt.failed"]
        assert logged == ["ValueError: a bug of ours"]

    def test_a_storage_that_holds_other_bytes_is_not_believed(self, shop, tmp_path):
        class Forgetful(MemoryStorage):
            def put(self, key, source, *, content_type):
                shorter = tmp_path / "shorter"
                shorter.write_bytes(source.read_bytes()[:-1])
                return super().put(key, shorter, content_type=content_type)

        attempt = shop.attempt()
        shop.runner_on(Forgetful()).run(attempt)
        assert shop.outcome(attempt) == ("retrying", None, 1)
        assert shop.job_row(attempt.claim.job_id)["error_code"] == StorageError.code
        assert shop.variants(attempt.claim) == {}


class TestLostLease:
    def test_while_rendering_nothing_is_said_and_nothing_of_the_winner_removed(self, shop):
        engine = FakeEngine(is_held=True)
        loser = shop.attempt(engine)
        with in_thread(shop.runner.run, loser):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            winner = shop.take_over(loser)
            shop.runner.run(winner)
            loser.end(Ending.LOST)
        assert shop.outcome(winner) == ("completed", None, 2)
        assert shop.completions(winner.claim) == 1
        assert shop.events_told("job.completed", "job.lost") == ["job.completed", "job.lost"]
        shop.assert_whole(winner.claim)

    def test_while_the_winner_still_works_its_original_stays(self, shop):
        engine = FakeEngine(is_held=True)
        loser = shop.attempt(engine)
        with in_thread(shop.runner.run, loser):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            winner = shop.take_over(loser)
            loser.end(Ending.LOST)
        assert shop.outcome(winner) == ("processing", None, 2)
        assert shop.staged() == [winner.claim.staging_path]
        shop.runner.run(winner)
        shop.assert_whole(winner.claim)

    def test_while_storing_no_further_object_is_written(self, shop):
        slow = SlowStorage(shop.storage)
        loser = shop.attempt()
        with in_thread(shop.runner_on(slow).run, loser):
            assert slow.has_reached_it.wait(PATIENCE_SECONDS)
            winner = shop.take_over(loser)
            shop.runner.run(winner)
            loser.end(Ending.LOST)
            slow.may_go_on.set()
        assert slow.puts == 2
        assert shop.completions(winner.claim) == 1
        shop.assert_whole(winner.claim)

    def test_a_zombie_that_knows_nothing_is_refused_at_the_commit(self, shop):
        winners = []

        def be_overtaken():
            winners.append(shop.take_over(loser))
            shop.runner.run(winners[0])

        loser = shop.attempt(BusyEngine(be_overtaken))
        shop.runner.run(loser)
        assert shop.completions(loser.claim) == 1
        assert shop.events_told("job.completed", "job.lost") == ["job.completed", "job.lost"]
        shop.assert_whole(winners[0].claim)

    def test_a_zombie_that_fails_says_nothing(self, shop):
        def be_overtaken():
            shop.take_over(loser)
            raise an_error(CorruptImageError)

        loser = shop.attempt(BusyEngine(be_overtaken))
        shop.runner.run(loser)
        assert shop.outcome(loser) == ("processing", None, 2)
        assert shop.staged() == [loser.claim.staging_path]


class TestEndedFromOutside:
    def test_cancelled_while_rendering(self, shop):
        engine = FakeEngine(is_held=True)
        attempt = shop.attempt(engine)
        with in_thread(shop.runner.run, attempt):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            shop.jobs.cancel(attempt.claim.job_id, "ada")
            attempt.end(Ending.CANCELLED)
        assert shop.outcome(attempt) == ("failed", "cancelled", 1)
        assert shop.staged() == []
        assert list(shop.storage.keys("")) == []

    def test_a_cancel_beats_the_commit(self, shop):
        attempt = shop.attempt(BusyEngine(lambda: shop.jobs.cancel(attempt.claim.job_id, "ada")))
        shop.runner.run(attempt)
        assert shop.outcome(attempt) == ("failed", "cancelled", 1)
        assert shop.variants(attempt.claim) == {}

    def test_stopped_while_rendering_gives_the_attempt_back(self, shop):
        engine = FakeEngine(is_held=True)
        attempt = shop.attempt(engine)
        with in_thread(shop.runner.run, attempt):
            assert engine.has_started.wait(PATIENCE_SECONDS)
            attempt.end(Ending.STOPPED)
        assert shop.outcome(attempt) == ("pending", None, 0)
        assert shop.job_row(attempt.claim.job_id)["crash_count"] == 0
        assert shop.staged() == [attempt.claim.staging_path]
        assert shop.events_told("job.released") == ["job.released"]

    def test_stopped_while_storing_gives_the_attempt_back(self, shop):
        slow = SlowStorage(shop.storage)
        attempt = shop.attempt()
        with in_thread(shop.runner_on(slow).run, attempt):
            assert slow.has_reached_it.wait(PATIENCE_SECONDS)
            attempt.end(Ending.STOPPED)
            slow.may_go_on.set()
        assert shop.outcome(attempt) == ("pending", None, 0)
        again = Attempt(shop.claim(), FakeEngine())
        shop.runner.run(again)
        shop.assert_whole(again.claim)

    @pytest.mark.parametrize(("ending", "status"), [(Ending.STOPPED, "pending"), (Ending.LOST, "processing")])
    def test_ended_before_the_render_does_not_begin_it(self, shop, ending, status):
        engine = FakeEngine()
        attempt = shop.attempt(engine)
        attempt.end(ending)
        shop.runner.run(attempt)
        assert engine.requests == []
        assert shop.outcome(attempt)[0] == status

    def test_the_first_ending_stands(self, shop):
        attempt = shop.attempt()
        attempt.end(Ending.LOST)
        attempt.end(Ending.STOPPED)
        assert attempt.ending is Ending.LOST


def is_failed_commit(event):
    return event == "job.commit.failed"


class TestBusyDatabase:
    def test_a_finished_result_waits_for_it(self, shop):
        attempt = shop.attempt()
        with shop.write_lock(until=is_failed_commit):
            shop.runner.run(attempt)
        assert shop.events_told("job.commit.failed", "job.completed") == [
            "job.commit.failed",
            "job.completed",
        ]
        assert shop.outcome(attempt) == ("completed", None, 1)
        shop.assert_whole(attempt.claim)

    def test_a_refusal_waits_for_it(self, shop):
        attempt = shop.attempt(FailingEngine(an_error(CorruptImageError)))
        with shop.write_lock(until=is_failed_commit):
            shop.runner.run(attempt)
        assert shop.outcome(attempt) == ("failed", "rejected", 1)

    def test_not_once_the_lease_is_lost(self, shop):
        def lose(event):
            if is_failed_commit(event):
                attempt.end(Ending.LOST)
            return False

        attempt = shop.attempt()
        with shop.write_lock(until=lose):
            shop.runner.run(attempt)
        assert shop.events_told("job.commit.failed", "job.lost") == ["job.commit.failed", "job.lost"]
        assert shop.outcome(attempt) == ("processing", None, 1)
        assert shop.staged() == [attempt.claim.staging_path]

    def test_when_patience_ends_the_caller_hears_of_it_and_the_lease_does_the_rest(self, shop, monkeypatch):
        monkeypatch.setattr("image_processor.runner.COMMIT_DELAYS_SECONDS", (0.001, 0.001))
        attempt = shop.attempt()
        with shop.write_lock(), pytest.raises(UnavailableError):
            shop.runner.run(attempt)
        winner = shop.take_over(attempt)
        shop.runner.run(winner)
        assert shop.outcome(winner) == ("completed", None, 2)
        shop.assert_whole(winner.claim)


@pytest.mark.parametrize(
    ("megapixels", "seconds"), [(0, 60), (12, 60), (30, 60), (100, 200), (300, 600), (10_000, 600)]
)
def test_the_deadline_grows_with_the_pixels_within_bounds(megapixels, seconds):
    assert deadline_seconds(Header(width=megapixels * 1000, height=1000)) == seconds


def test_the_frames_count_for_the_deadline():
    assert deadline_seconds(Header(width=1000, height=1000, frames=100)) == 200


class ElsewhereShop:
    """Jobs whose only variant goes to a file of the user's."""

    def __init__(self, shop, folder):
        folder.mkdir()
        self.shop, self.place = shop, folder / "result.jpg"
        self.locations = Locations(
            file_roots=(folder,), outbound=Outbound(), buckets={}.__getitem__, fetch_timeout_seconds=5.0
        )
        self.pipeline = WEB.pipeline.model_copy(update={"variants": WEB.pipeline.variants[:1]})

    def attempt(self, **fields):
        return self.shop.attempt(pipeline=self.pipeline, output_uri=self.place.as_uri(), **fields)

    def run(self, attempt, put):
        """With `put` in place of what puts the variant there; it is given the real one."""
        real = self.locations.put
        locations = SimpleNamespace(
            put=lambda *given, **named: put(lambda: real(*given, **named)), remove=self.locations.remove
        )
        places = Places(storage=self.shop.storage, locations=locations)
        replace(self.shop.runner, places=places).run(attempt)

    def cancel(self, attempt):
        self.shop.jobs.cancel(attempt.claim.job_id, "ada")


class TestElsewhere:
    @pytest.fixture
    def elsewhere(self, shop, tmp_path):
        return ElsewhereShop(shop, tmp_path / "out")

    def test_a_cancelled_job_leaves_what_was_there_before(self, elsewhere):
        elsewhere.place.write_bytes(b"of last year")
        attempt = elsewhere.attempt()

        def fail(_put):
            elsewhere.cancel(attempt)
            attempt.end(Ending.CANCELLED)
            raise an_error(StorageError)

        elsewhere.run(attempt, fail)
        assert elsewhere.shop.outcome(attempt) == ("failed", "cancelled", 1)
        assert elsewhere.place.read_bytes() == b"of last year"

    def test_a_cancelled_job_leaves_what_another_wrote_there_since(self, elsewhere):
        attempt = elsewhere.attempt()

        def put_and_begin_anew(put):
            put()
            elsewhere.cancel(attempt)
            elsewhere.run(elsewhere.attempt(), lambda put: put())

        elsewhere.run(attempt, put_and_begin_anew)
        assert elsewhere.shop.outcome(attempt) == ("failed", "cancelled", 1)
        assert elsewhere.place.exists()


def test_nothing_half_written_stays_in_a_local_storage(tmp_path):
    shop = Workshop(tmp_path, LocalStorage(tmp_path / "storage"))
    shop.run(FailingEngine(an_error(EngineError)))
    shop.runner.run(Attempt(shop.claim(), FakeEngine()))
    files = [path.parent.name for path in (tmp_path / "storage").rglob("*") if path.is_file()]
    assert sorted(files) == ["large", "medium", "original", "thumbnail"]
    shop.close()
