"""A backup, made beside a living database, and what comes of it when it is put back."""

import gzip
import hashlib
import json
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from image_processor.cli import app
from image_processor.errors import (
    ConflictError,
    InvalidKeyError,
    InvalidRequestError,
    StorageDamageError,
    UnavailableError,
)
from image_processor.jobs import Database, JobRepository, snapshot
from image_processor.jobs.inventory import InventoryRepository
from image_processor.maintenance.backup import Backup, BackupParts
from image_processor.maintenance.manifest import DATABASE, FILES, MANIFEST, OBJECTS, STAGED, STAGING
from image_processor.maintenance.restoration import Destination, Restoration
from image_processor.maintenance.verification import Verification
from image_processor.storage.local import LocalStorage
from image_processor.testing.fake_engine import FakeEngine
from integration.jobs.job_samples import some_facts
from integration.workshop import Workshop


@pytest.fixture
def workshop(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    workshop = Workshop(folder, LocalStorage(folder / "storage"))
    yield workshop
    workshop.close()


@pytest.fixture
def parts(workshop):
    return BackupParts(
        database=workshop.database,
        storage=workshop.storage,
        storage_backend="local",
        staging=workshop.stage.directory,
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "backups" / "monday"


@pytest.fixture
def destination(tmp_path):
    place = tmp_path / "elsewhere"
    return Destination(
        storage=LocalStorage(place / "storage"), database=place / "processor.db", staging=place / "staging"
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lines(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def restored(folder, destination, *, replaces=False):
    restoration = Restoration(folder)
    restoration.check_destination(destination, replaces=replaces)
    restoration.check()
    return restoration.put_back(destination, replaces=replaces)


def test_all_of_it_comes_back_elsewhere(workshop, parts, folder, destination):
    done = workshop.run(FakeEngine())
    waiting = workshop.submit()
    manifest = Backup(parts).make(folder, with_files=True)
    assert names(folder) == [MANIFEST, OBJECTS, DATABASE, STAGED, STAGING, FILES]
    assert (manifest.rows["images"], manifest.staged.entries, manifest.absent_objects) == (2, 1, 0)
    variants = workshop.variants(done.claim)
    assert {line["key"]: line["sha256"] for line in lines(folder / OBJECTS)} == {
        variant.key: variant.sha256 for variant in variants.values()
    }
    assert restored(folder, destination).staged == 1
    with closing(Database.open(destination.database)) as database:
        assert Verification(InventoryRepository(database), destination.storage).run().is_whole
        claim = JobRepository(database).claim("worker-2", 60)
        assert claim.job_id == waiting.job_id
        original = destination.staging / claim.staging_path
        assert original.read_bytes() == (workshop.stage.directory / claim.staging_path).read_bytes()


def test_without_files_the_list_of_them_is_there(workshop, parts, folder):
    workshop.run(FakeEngine())
    manifest = Backup(parts).make(folder, with_files=False)
    assert names(folder) == [MANIFEST, OBJECTS, DATABASE, STAGED, STAGING]
    assert manifest.objects.entries == len(lines(folder / OBJECTS)) > 0
    assert manifest.objects.entries_bytes == sum(line["size"] for line in lines(folder / OBJECTS))


def test_a_job_that_ends_while_it_is_backed_up_keeps_its_original_there(workshop, parts, folder):
    receipt = workshop.submit()
    staging_path = workshop.job_row(receipt.job_id)["staging_path"]

    class Busy(LocalStorage):
        """When the files are copied, the database was taken long ago."""

        def check(self):
            workshop.jobs.complete(workshop.claim(), some_facts())
            workshop.stage.remove(staging_path)

    busy = replace(parts, storage=Busy(workshop.folder / "storage"))
    manifest = Backup(busy).make(folder, with_files=True)
    assert workshop.staged() == []
    assert manifest.staged.entries == 1
    assert names(folder / STAGING) == [staging_path]


def test_uploads_that_nobody_needs_are_not_in_it(workshop, parts, folder):
    (workshop.stage.directory / "half-an-upload").write_bytes(b"half")
    (workshop.stage.directory / ".hidden").write_bytes(b"no name of ours")
    manifest = Backup(parts).make(folder, with_files=False)
    assert manifest.staged.entries == 0
    assert names(folder / STAGING) == []


def test_where_files_cannot_be_linked_they_are_copied(workshop, parts, folder, monkeypatch):
    def no_links(_source, _target):
        raise OSError(18, "Invalid cross-device link")

    workshop.submit()
    monkeypatch.setattr("image_processor.maintenance.backup.os.link", no_links)
    Backup(parts).make(folder, with_files=False)
    (name,) = names(folder / STAGING)
    copy, original = folder / STAGING / name, workshop.stage.directory / name
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_ino != original.stat().st_ino


def test_what_comes_last_before_the_database_is_taken_is_held_too(workshop, parts, folder, monkeypatch):
    real = snapshot.take

    def take(*arguments):
        workshop.submit()
        real(*arguments)

    monkeypatch.setattr(snapshot, "take", take)
    manifest = Backup(parts).make(folder, with_files=False)
    assert (manifest.rows["processing_jobs"], manifest.staged.entries) == (1, 1)
    assert names(folder / STAGING) == workshop.staged()


def test_what_is_gone_or_damaged_is_counted_and_left_out(workshop, parts, folder, destination, monkeypatch):
    monkeypatch.setattr("image_processor.maintenance.migration.PAUSES_SECONDS", ())
    done = workshop.run(FakeEngine())
    gone, damaged, *_ = [variant.key for variant in workshop.variants(done.claim).values()]
    (workshop.folder / "storage" / gone).unlink()
    path = workshop.folder / "storage" / damaged
    path.write_bytes(b"x" * path.stat().st_size)
    manifest = Backup(parts).make(folder, with_files=True)
    assert manifest.absent_objects == 2
    assert not {gone, damaged} & {line["key"] for line in lines(folder / OBJECTS)}
    restored(folder, destination)


def test_it_replaces_nothing_and_leaves_nothing_where_it_fails(workshop, parts, folder):
    folder.mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match="replaces nothing"):
        Backup(parts).make(folder, with_files=False)
    workshop.run(FakeEngine())

    def spoil(_moved):
        raise UnavailableError("Enough.")

    with pytest.raises(UnavailableError):
        Backup(parts).make(folder.parent / "tuesday", with_files=True, told=spoil)
    assert names(folder.parent) == ["monday"]


@pytest.mark.parametrize("name", [DATABASE, OBJECTS, STAGED])
def test_a_backup_that_is_damaged_is_refused_before_anything_is_written(
    workshop, parts, folder, destination, name
):
    workshop.submit()
    Backup(parts).make(folder, with_files=False)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(StorageDamageError, match=name):
        restored(folder, destination)
    assert not destination.database.exists()
    assert not destination.staging.exists()


def test_so_is_one_with_a_damaged_file(workshop, parts, folder, destination):
    done = workshop.run(FakeEngine())
    workshop.submit()
    Backup(parts).make(folder, with_files=True)
    (staged,) = (folder / STAGING).iterdir()
    file = folder / FILES / next(iter(workshop.variants(done.claim).values())).key
    for path in (staged, file):
        content = path.read_bytes()
        path.unlink()  # its bytes are the stage's too
        path.write_bytes(content[:-1] + b"?")
        with pytest.raises(StorageDamageError, match=path.name):
            restored(folder, destination)
        path.write_bytes(content)
    restored(folder, destination)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 2}'])
def test_no_manifest_no_backup(folder, content):
    folder.mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match="no backup"):
        Restoration(folder)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidRequestError, match="damaged"):
        Restoration(folder)


def test_names_that_lead_elsewhere_are_refused(workshop, parts, folder, destination):
    Backup(parts).make(folder, with_files=False)
    manifest = json.loads((folder / MANIFEST).read_text())
    evil = gzip.compress(json.dumps({"key": "../evil", "size": 1, "sha256": "0" * 64}).encode() + b"\n")
    (folder / STAGED).write_bytes(evil)
    manifest["staged"] |= {"sha256": hashlib.sha256(evil).hexdigest(), "size_bytes": len(evil), "entries": 1}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidKeyError):
        restored(folder, destination)


def test_a_database_that_is_there_is_replaced_only_by_force_and_kept(workshop, parts, folder, destination):
    first = workshop.submit()
    Backup(parts).make(folder, with_files=False)
    restored(folder, destination)
    with pytest.raises(ConflictError, match="--force"):
        restored(folder, destination)
    with closing(Database.open(destination.database)) as database:
        JobRepository(database).claim("worker-2", 60)
        with pytest.raises(UnavailableError, match="stop the service"):
            restored(folder, destination, replaces=True)
    kept = restored(folder, destination, replaces=True).kept_database
    assert ".before-restore-" in kept.name
    with closing(Database.open(kept)) as old, closing(Database.open(destination.database)) as new:
        assert JobRepository(old).claim("worker-3", 60) is None
        assert JobRepository(new).claim("worker-3", 60).job_id == first.job_id


def test_a_backup_of_another_kind_of_database_does_not_fit(workshop, parts, folder, destination):
    workshop.submit()
    Backup(parts).make(folder, with_files=False)
    with pytest.raises(InvalidRequestError, match="backup is of a service with SQLite"):
        restored(folder, replace(destination, database=None))
    with pytest.raises(InvalidRequestError, match="STORAGE_BACKEND=local"):
        restored(folder, replace(destination, staging=None))


# The commands


@pytest.fixture
def run(workshop, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(workshop.folder))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)))

    return run


def test_the_commands(run, workshop, folder, tmp_path):
    workshop.run(FakeEngine())
    workshop.submit()
    made = run("backup", folder, "--files")
    assert (made.exit_code, made.stderr) == (0, "")
    assert "2 images, 1 originals that wait" in made.stdout
    again = run("backup", folder)
    assert "replaces nothing" in str(again.exception)
    put = run("restore", folder, "--into", tmp_path / "new")
    assert (put.exit_code, put.stderr) == (0, "")
    assert "The storage is whole: 1 images" in put.stdout
    assert {"processor.db", "storage", "staging"} <= set(names(tmp_path / "new"))
    once_more = run("restore", folder, "--into", tmp_path / "new")
    assert "--force" in str(once_more.exception)
    forced = run("restore", folder, "--into", tmp_path / "new", "--force")
    assert forced.exit_code == 0
    assert ".before-restore-" in forced.stdout


def test_the_commands_say_where_files_are_missing(run, workshop, folder, tmp_path):
    done = workshop.run(FakeEngine())
    key = next(iter(workshop.variants(done.claim).values())).key
    (workshop.folder / "storage" / key).unlink()
    made = run("backup", folder, "--files")
    assert made.exit_code == 1
    assert made.stderr.startswith("1 files are not in it")
    put = run("restore", folder, "--into", tmp_path / "new")
    assert put.exit_code == 1
    assert f"  {key}\n" in put.stdout


def test_nothing_to_back_up(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "typo"))
    assert "is DATA_PATH right?" in str(run("backup", tmp_path / "b").exception)
    assert not (tmp_path / "b").exists()
    assert "no backup" in str(run("restore", tmp_path / "b").exception)
