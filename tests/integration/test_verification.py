"""Rows held against files, and files against rows."""

import os

import pytest
from typer.testing import CliRunner

from image_processor.cli import app
from image_processor.errors import StorageError
from image_processor.jobs.inventory import InventoryRepository
from image_processor.maintenance.verification import LOSSES, Flaw, Verification, VerifyTerms
from image_processor.placement import variant_keys
from image_processor.storage.local import LocalStorage
from image_processor.testing.fake_engine import FakeEngine
from integration.workshop import FailingEngine, Workshop

DAYS_AGO = 1_700_000_000


@pytest.fixture
def workshop(tmp_path):
    workshop = Workshop(tmp_path, LocalStorage(tmp_path / "storage"))
    yield workshop
    workshop.close()


def verdict(workshop, **terms):
    inventory = InventoryRepository(workshop.database)
    return Verification(inventory, workshop.storage, VerifyTerms(scratch=workshop.scratch, **terms)).run()


def flaws(found):
    return {
        flaw: (findings.count, findings.examples) for flaw, findings in found.flaws.items() if findings.count
    }


def keys(workshop, attempt):
    return [variant.key for variant in workshop.variants(attempt.claim).values()]


def path(workshop, key):
    return workshop.folder / "storage" / key


def deleted(workshop):
    """An image that is deleted and purged; the keys it had."""
    attempt = workshop.run(FakeEngine())
    gone = keys(workshop, attempt)
    workshop.images.delete(attempt.claim.image_id, "ada")
    for key in gone:
        workshop.storage.delete(key)
    workshop.execute("update images set purge_after = null")
    return gone


def write(workshop, key, *, is_old=True):
    file = path(workshop, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"left over")
    if is_old:
        os.utime(file, (DAYS_AGO, DAYS_AGO))


def test_all_is_well(workshop):
    attempts = [workshop.run(FakeEngine()) for _ in range(3)]
    workshop.submit()
    found = verdict(workshop, reads_all=True)
    assert (found.is_whole, found.images, flaws(found)) == (True, 3, {})
    assert found.files == sum(len(keys(workshop, attempt)) for attempt in attempts)
    assert list(workshop.scratch.iterdir()) == []


def test_what_is_missing_short_or_changed_is_named(workshop):
    attempt = workshop.run(FakeEngine())
    missing, short, changed = keys(workshop, attempt)[:3]
    path(workshop, missing).unlink()
    content = path(workshop, changed).read_bytes()
    path(workshop, changed).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    path(workshop, short).write_bytes(path(workshop, short).read_bytes()[:-1])
    quick, deep = verdict(workshop), verdict(workshop, reads_all=True)
    assert flaws(quick) == {Flaw.MISSING: (1, [missing]), Flaw.WRONG_SIZE: (1, [short])}
    assert flaws(deep) == {**flaws(quick), Flaw.DAMAGED: (1, [changed])}
    assert (quick.is_whole, deep.is_whole) == (False, False)


def test_strays_are_named_and_of_three_kinds(workshop):
    workshop.run(FakeEngine())
    (of_deleted, *_) = deleted(workshop)
    write(workshop, of_deleted)
    write(workshop, "somebody/else.webp")
    write(workshop, "INCOMING/uploads/1")
    found = verdict(workshop)
    assert found.is_whole
    assert flaws(found) == {
        Flaw.STRAY_OF_DELETED: (1, [of_deleted]),
        Flaw.STRAY_UNKNOWN: (1, ["somebody/else.webp"]),
    }


def test_of_strays_only_old_ones_of_deleted_images_are_removed(workshop):
    attempt = workshop.run(FakeEngine())
    old, young, *_ = deleted(workshop)
    write(workshop, old)
    write(workshop, young, is_old=False)
    write(workshop, "somebody/else.webp")
    found = verdict(workshop, removes_strays=True)
    assert found.removed == 1
    assert flaws(found) == {
        Flaw.STRAY_OF_DELETED: (1, [young]),
        Flaw.STRAY_UNKNOWN: (1, ["somebody/else.webp"]),
    }
    assert sorted(workshop.storage.keys("")) == sorted(
        [*keys(workshop, attempt), young, "somebody/else.webp"]
    )


def test_what_a_failed_job_may_have_left_is_no_stray_until_it_is_purged(workshop):
    attempt = workshop.run(FailingEngine(*[StorageError("No.")] * 9), max_retries=0)
    assert workshop.outcome(attempt)[0] == "failed"
    key = variant_keys(attempt.claim)["thumbnail"]
    write(workshop, key)
    assert flaws(verdict(workshop)) == {}
    workshop.execute("update images set purge_after = null")
    found = verdict(workshop, removes_strays=True)
    assert (found.removed, flaws(found)) == (0, {Flaw.STRAY_OF_FAILED: (1, [key])})


def test_an_image_that_is_deleted_or_made_meanwhile_is_no_flaw(workshop):
    attempt = workshop.run(FakeEngine())

    class Moving(LocalStorage):
        """While it is listed, one image goes and another comes."""

        def objects(self, prefix):
            yield from list(super().objects(prefix))
            workshop.images.delete(attempt.claim.image_id, "ada")
            workshop.run(FakeEngine())

    workshop.storage = Moving(workshop.folder / "storage")
    found = verdict(workshop)
    assert (flaws(found), found.images) == ({}, 1)


@pytest.fixture
def run(workshop, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(workshop.folder))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, ["storage", "verify", *arguments])

    return run


def test_the_command_says_so_and_its_exit_code_too(run, workshop):
    attempt = workshop.run(FakeEngine())
    whole = run("--deep")
    assert (whole.exit_code, whole.stderr) == (0, "")
    assert whole.stdout.startswith("The storage is whole: 1 images")
    missing = keys(workshop, attempt)[0]
    path(workshop, missing).unlink()
    write(workshop, "somebody/else.webp")
    broken = run()
    assert broken.exit_code == 1
    assert "1 file is missing" in broken.stdout
    assert f"  {missing}\n" in broken.stdout
    assert "unknown to the database" in broken.stdout
    assert "NOT whole" in broken.stdout


def test_the_command_makes_no_database_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "typo"))
    done = CliRunner().invoke(app, ["storage", "verify"])
    assert "is DATA_PATH right?" in str(done.exception)
    assert not (tmp_path / "typo" / "processor.db").exists()


def test_losses_are_what_the_exit_code_is_about():
    assert set(LOSSES) == {Flaw.MISSING, Flaw.WRONG_SIZE, Flaw.DAMAGED}
