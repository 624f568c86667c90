"""What the rows say should be stored, on either database; and the whole database as one file."""

from contextlib import closing

import pytest

from image_processor.errors import ConfigurationError, StorageError, UnavailableError
from image_processor.jobs import Database, snapshot
from image_processor.jobs.inventory import InventoryRepository, Standing
from integration.jobs.job_samples import some_facts


def standings(room):
    return {image.image_id: image.standing for image in InventoryRepository(room.database).images(2)}


def test_every_image_once_with_what_is_to_be_expected_of_it(room):
    kept, deleted, purged = (room.claim() for _ in range(3))
    for claim in (kept, deleted, purged):
        room.jobs.complete(claim, some_facts())
    failed, forgotten = (room.claim(max_retries=0, user_id="bob") for _ in range(2))
    for claim in (failed, forgotten):
        room.jobs.fail(claim, StorageError("The storage answered wrongly."))
    for claim in (purged, deleted):
        room.images.delete(claim.image_id, "ada")
    for claim in (purged, forgotten):
        room.execute("update images set purge_after = null where image_id = :id", id=claim.image_id)
    waiting = room.submit()
    assert standings(room) == {
        kept.image_id: Standing.KEPT,
        deleted.image_id: Standing.UNSETTLED,
        purged.image_id: Standing.DELETED,
        failed.image_id: Standing.UNSETTLED,
        forgotten.image_id: Standing.FAILED,
        waiting.image_id: Standing.UNSETTLED,
    }
    image = InventoryRepository(room.database).image(kept.image_id)
    assert image.variants == some_facts().variants
    assert (image.pipeline, image.key_template) == (kept.pipeline, kept.key_template)
    assert InventoryRepository(room.database).image("no-such-image") is None


def test_a_job_of_a_newer_version_hides_no_image(room):
    claim = room.claim()
    room.jobs.complete(claim, some_facts())
    room.execute("update processing_jobs set pipeline = '{\"newer\": 1}'")
    (image,) = InventoryRepository(room.database).images()
    assert (image.standing, image.pipeline) == (Standing.KEPT, None)


def test_rows_are_counted_by_table(room):
    room.submit()
    counts = snapshot.row_counts(room.database)
    assert (counts["images"], counts["processing_jobs"], counts["workers"]) == (1, 1, 0)
    assert "alembic_version" not in counts


class TestSnapshot:
    @pytest.fixture
    def where(self, database_path):
        """SQLite's alone."""
        return database_path

    def test_it_is_of_the_moment_at_which_it_was_held(self, room, tmp_path):
        room.submit()
        impatient = Database.open(room.where, busy_timeout_seconds=0.05)

        def hold():
            with pytest.raises(UnavailableError), impatient.write():
                pass

        with closing(impatient):
            snapshot.take(room.database, tmp_path / "copy.db", hold)
        room.submit()
        snapshot.check(tmp_path / "copy.db")
        with closing(Database.open(tmp_path / "copy.db")) as copy:
            assert snapshot.row_counts(copy)["images"] == 1

    def test_a_file_in_use_is_not_folded(self, room, tmp_path):
        room.submit()
        with pytest.raises(UnavailableError, match="stop the service"):
            snapshot.fold(room.where)
        room.database.close()
        snapshot.fold(room.where)
        assert [path.name for path in room.where.parent.glob(f"{room.where.name}-*")] == []

    def test_a_damaged_file_is_refused(self, room, tmp_path):
        for _ in range(200):
            room.submit()
        path = tmp_path / "copy.db"
        snapshot.take(room.database, path, lambda: None)
        content = bytearray(path.read_bytes())
        content[8192:90_000] = b"\xaa" * (90_000 - 8192)
        path.write_bytes(content)
        with pytest.raises((ConfigurationError, UnavailableError)):
            snapshot.check(path)
