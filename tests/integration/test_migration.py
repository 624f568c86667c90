"""Taking objects from one storage to another: what is copied, what is not, and how it ends when one fails."""

import hashlib
import os
import signal
import threading
from importlib import import_module

import pytest
from typer.testing import CliRunner

from image_processor.cli import app
from image_processor.errors import (
    InvalidKeyError,
    StorageCredentialsError,
    StorageDamageError,
    StorageError,
    StorageThrottledError,
)
from image_processor.maintenance import migration as module
from image_processor.maintenance.migration import Amount, CopyTerms, Fate, Migration, Sieve
from image_processor.maintenance.parallel import in_parallel
from image_processor.storage.local import SHA256_ATTRIBUTE, LocalStorage
from image_processor.storage.memory import MemoryStorage

CONTENTS = {f"photos/{number}/thumbnail.webp": f"picture {number}".encode() for number in range(40)}


@pytest.fixture
def put(tmp_path):
    """Puts bytes under a key."""

    def put(storage, key, content, content_type="image/webp"):
        (tmp_path / "one").write_bytes(content)
        return storage.put(key, tmp_path / "one", content_type=content_type)

    return put


@pytest.fixture
def source(tmp_path, put):
    storage = LocalStorage(tmp_path / "source")
    for key, content in CONTENTS.items():
        put(storage, key, content)
    return storage


@pytest.fixture
def target():
    return FlakyStorage()


class FlakyStorage(MemoryStorage):
    """Fails to put as often as it is told to, and remembers what was put."""

    def __init__(self, *errors, failing=lambda _key: True):
        super().__init__()
        self.errors = list(errors)
        self.failing = failing
        self.puts = []

    def put(self, key, source, *, content_type):
        self.puts.append(key)
        if self.errors and self.failing(key):
            raise self.errors.pop(0)
        return super().put(key, source, content_type=content_type)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0, 0.0))


def contents(storage):
    found = {}
    for key in storage.keys(""):
        with storage.open(key) as file:
            found[key] = file.read()
    return found


def counts(report):
    return {fate.value: amount.objects for fate, amount in report.amounts.items() if amount.objects}


def migrated(source, target, **terms):
    return Migration(source, target, CopyTerms(**terms)).run()


def test_every_object_arrives_with_its_type_and_a_second_run_copies_nothing(source, target, tmp_path):
    told = []
    migration = Migration(source, target, CopyTerms(scratch=tmp_path))
    report = migration.run(told.append)
    assert contents(target) == CONTENTS
    assert target.stat("photos/7/thumbnail.webp").content_type == "image/webp"
    assert report.is_complete
    assert report.amounts[Fate.COPIED] == migration.total()
    assert {moved.entry.key for moved in told} == set(CONTENTS)
    assert counts(migration.run()) == {"present": 40}
    assert len(target.puts) == 40
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["source"]


def test_what_is_half_there_or_other_is_copied_anew(source, target, put):
    put(target, "photos/1/thumbnail.webp", b"half")
    put(target, "photos/2/thumbnail.webp", b"pictuRe 2")
    put(target, "photos/3/thumbnail.webp", CONTENTS["photos/3/thumbnail.webp"])
    put(target, "another/one.webp", b"stays")
    assert counts(migrated(source, target)) == {"copied": 39, "present": 1}
    assert contents(target) == {**CONTENTS, "another/one.webp": b"stays"}


def test_objects_whose_hash_nobody_knows_are_read_to_compare(tmp_path):
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "same.webp").write_bytes(b"the same")
        (tmp_path / side / "other.webp").write_bytes(side.encode())
    source, target = LocalStorage(tmp_path / "source"), LocalStorage(tmp_path / "target")
    assert source.stat("same.webp").sha256 is None
    assert counts(migrated(source, target)) == {"copied": 1, "present": 1}
    assert contents(target) == {"same.webp": b"the same", "other.webp": b"source"}


def test_what_is_not_accepted_yet_is_left_where_it_is(source, target, put):
    put(source, "INCOMING/uploads/1", b"who knows")
    assert migrated(source, target).is_complete
    assert contents(target) == CONTENTS


def test_a_trial_tells_what_would_be_copied_and_copies_nothing(source, target, put):
    put(target, "photos/3/thumbnail.webp", CONTENTS["photos/3/thumbnail.webp"])
    target.puts.clear()
    report = Migration(source, target).try_out()
    assert counts(report) == {"copied": 39, "present": 1}
    assert report.amounts[Fate.COPIED].size_bytes == sum(map(len, CONTENTS.values())) - len(b"picture 3")
    assert target.puts == []


def test_bytes_that_rotted_at_the_source_are_not_passed_on(source, target, tmp_path):
    path = tmp_path / "source" / "photos" / "5" / "thumbnail.webp"
    if not hasattr(os, "getxattr") or not source.stat("photos/5/thumbnail.webp").sha256:
        pytest.skip("this file system keeps no attributes")
    path.write_bytes(b"pictuRe 5")
    assert os.getxattr(path, SHA256_ATTRIBUTE)
    report = migrated(source, target)
    assert counts(report) == {"copied": 39, "failed": 1}
    assert not report.is_complete
    assert [(moved.entry.key, type(moved.error)) for moved in report.failures] == [
        ("photos/5/thumbnail.webp", StorageDamageError)
    ]
    assert "photos/5/thumbnail.webp" not in contents(target)


def test_reading_back_finds_and_mends_what_rotted_at_the_target(source, tmp_path):
    target = LocalStorage(tmp_path / "target")
    migrated(source, target)
    rotten = tmp_path / "target" / "photos" / "5" / "thumbnail.webp"
    if not target.stat("photos/5/thumbnail.webp").sha256:
        pytest.skip("this file system keeps no attributes")
    rotten.write_bytes(b"pictuRe 5")
    assert counts(migrated(source, target)) == {"present": 40}
    assert counts(migrated(source, target, reads_back=True)) == {"copied": 1, "present": 39}
    assert contents(target) == CONTENTS


def test_one_that_fails_is_counted_and_the_others_go_on(source):
    target = FlakyStorage(*[InvalidKeyError("No.")] * 25, failing=lambda key: int(key.split("/")[1]) < 25)
    report = migrated(source, target, threads=2)
    assert counts(report) == {"copied": 15, "failed": 25}
    assert len(report.failures) == 20
    assert counts(migrated(source, target)) == {"copied": 25, "present": 15}


def test_what_may_pass_is_tried_again(source):
    target = FlakyStorage(StorageThrottledError("Slow down."), StorageThrottledError("Slow down."))
    assert counts(migrated(source, target, threads=1)) == {"copied": 40}


def test_a_storage_that_is_down_ends_it_soon_and_it_goes_on_later(source):
    refused = [StorageCredentialsError("Who are you?")] * 1000
    target = FlakyStorage(*refused, failing=lambda _key: len(target.puts) > 10)
    migration = Migration(source, target, CopyTerms(threads=1))
    with pytest.raises(StorageCredentialsError):
        migration.run()
    assert counts(migration.report) == {"copied": 10, "failed": 5}
    assert len(target.puts) < 30
    target.errors.clear()
    assert counts(migration.run()) == {"copied": 30, "present": 10}


def test_one_that_was_deleted_meanwhile_is_no_failure(source, target):
    entries = list(source.objects(""))
    source.delete(entries[3].key)
    report = Migration(source, target).run(entries=entries)
    assert counts(report) == {"copied": 39, "vanished": 1}
    assert report.is_complete


def test_a_scratch_folder_that_cannot_be_written_is_a_sentence(source, target, tmp_path):
    migration = Migration(source, target, CopyTerms(scratch=tmp_path))

    def spoil(_moved):
        for folder in tmp_path.glob("migration-*"):
            folder.rename(tmp_path / "elsewhere")

    report = migration.run(spoil)
    assert counts(report)["failed"] > 0
    assert {type(moved.error) for moved in report.failures} == {StorageError}


def test_work_in_parallel_takes_no_more_than_it_can_do(source):
    taken = []
    gate = threading.Event()

    def things():
        for number in range(1000):
            taken.append(number)
            yield number

    def work(number):
        gate.wait(10)
        return number

    products = in_parallel(work, things(), threads=2)
    threading.Timer(0.05, gate.set).start()
    next(products)
    assert len(taken) < 20
    products.close()
    assert len(taken) < 20


# The command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data"))

    def run(*arguments):
        return CliRunner().invoke(app, ["storage", "migrate", *arguments])

    return run


@pytest.fixture
def other_end(monkeypatch, target):
    """What the command finds at the other end, in place of a bucket."""
    command = import_module("image_processor.cli.storage")
    real = command.open_storage
    monkeypatch.setattr(
        command,
        "open_storage",
        lambda settings: target if settings.storage_backend == "s3" else real(settings),
    )
    return target


def test_the_command_tells_what_it_did(run, other_end, tmp_path, put):
    stored = LocalStorage(tmp_path / "data" / "storage")
    for key, content in CONTENTS.items():
        put(stored, key, content)
    trial = run("--from", "local", "--to", "s3", "--dry-run")
    assert (trial.exit_code, other_end.puts) == (0, [])
    assert "40 objects (390 bytes) would be copied to s3; 0 objects (0 bytes) are there." in trial.output
    first = run("--from", "local", "--to", "s3", "--jobs", "2")
    assert first.exit_code == 0
    assert "40 objects (390 bytes) copied to s3, 0 objects (0 bytes) were there" in first.output
    second = run("--from", "local", "--to", "s3")
    assert second.exit_code == 0
    assert "All is there: 40 objects (390 bytes) in s3; nothing was copied." in second.output


def test_the_command_names_what_failed(run, other_end, tmp_path, put):
    other_end.errors[:] = [InvalidKeyError("It runs through another.")] * 22
    stored = LocalStorage(tmp_path / "data" / "storage")
    for key, content in CONTENTS.items():
        put(stored, key, content)
    done = run("--from", "local", "--to", "s3")
    assert done.exit_code == 1
    assert done.stderr.count("It runs through another.") == 20
    assert "and 2 more" in done.stderr
    assert "could not be copied; 18 objects" in done.stdout


def test_the_command_refuses_what_makes_no_sense(run, tmp_path):
    same = run("--from", "local", "--to", "local")
    assert "to itself" in str(same.exception)
    nowhere = run("--from", "local", "--to", "s3")
    assert "is DATA_PATH right?" in str(nowhere.exception)
    assert not (tmp_path / "data" / "storage").exists()


def test_ctrl_c_ends_in_order(run, other_end, tmp_path, put, monkeypatch):
    stored = LocalStorage(tmp_path / "data" / "storage")
    for key, content in CONTENTS.items():
        put(stored, key, content)
    real, done = other_end.put, []

    def put_slowly(key, *arguments, **fields):
        done.append(key)
        if len(done) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(key, *arguments, **fields)

    monkeypatch.setattr(other_end, "put", put_slowly)
    stopped = run("--from", "local", "--to", "s3", "--jobs", "1")
    assert stopped.exit_code == 130
    assert "run it again to go on" in stopped.stderr
    assert len(done) < 40
    assert not list((tmp_path / "data" / "scratch").iterdir())
    assert run("--from", "local", "--to", "s3").exit_code == 0
    assert {key: hashlib.sha256(content).hexdigest() for key, content in contents(other_end).items()} == {
        key: hashlib.sha256(content).hexdigest() for key, content in CONTENTS.items()
    }


def test_what_the_target_does_not_list_is_not_asked_for(source, target, put, monkeypatch):
    put(target, "photos/3/thumbnail.webp", CONTENTS["photos/3/thumbnail.webp"])
    asked, real = [], target.stat
    monkeypatch.setattr(target, "stat", lambda key: asked.append(key) or real(key))
    assert counts(migrated(source, target)) == {"copied": 39, "present": 1}
    assert asked == ["photos/3/thumbnail.webp"]


def test_a_sieve_forgets_nothing_and_seldom_errs():
    held = Sieve(map(str, range(10_000)))
    assert all(held.may_hold(str(number)) for number in range(10_000))
    assert sum(held.may_hold(str(number)) for number in range(10_000, 20_000)) < 10


def test_amounts_add_up():
    assert Amount().with_one(3).with_one(4) == Amount(objects=2, size_bytes=7)
