import itertools
import sqlite3
import sys
import threading
from collections import deque
from pathlib import Path

import pytest
from sqlalchemy import event, text

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    StorageFullError,
    UnavailableError,
)
from image_processor.jobs import Database, JobRepository
from image_processor.jobs import sqlite as module
from integration.jobs.job_samples import UNLIMITED, an_upload


@pytest.fixture
def where(database_path):
    """SQLite's; PostgreSQL has a module of its own."""
    return database_path


@pytest.fixture
def hurried(database_path):
    """The same database, with little patience."""
    database = Database.open(database_path, busy_timeout_seconds=0.1)
    yield database
    database.close()


def connect(path):
    # Two builds of SQLite in one process undo each other's locks: this must be the same one.
    return module.driver.connect(path, isolation_level=None)


def schema(database):
    with database.read() as connection:
        return connection.exec_driver_sql("select type, name, sql from sqlite_master order by 1, 2").all()


def test_what_is_submitted_survives_a_power_cut(room):
    seen = []

    def look(connection):
        pragmas = ("synchronous", "journal_mode", "foreign_keys")
        seen.append([connection.exec_driver_sql(f"pragma {name}").scalar_one() for name in pragmas])

    event.listen(room.database._engine, "commit", look)
    room.submit()
    assert seen == [[2, "wal", 1]]


def test_a_writer_holds_the_lock_from_its_first_moment_and_readers_do_not_wait(database, hurried):
    with database.write():
        hurried.ping()
        with pytest.raises(UnavailableError, match="busy"), hurried.write():
            pytest.fail("two writers at once")
    with hurried.write():
        pass


def test_a_reader_sees_one_state(database, room):
    with database.read() as connection:
        count = text("select count(*) from processing_jobs")
        before = connection.execute(count).scalar_one()
        room.submit()
        assert connection.execute(count).scalar_one() == before


def test_a_writer_waits_for_another_one_of_this_process(room):
    finished = threading.Event()

    def submit():
        room.submit()
        finished.set()

    with room.database.write():
        thread = threading.Thread(target=submit)
        thread.start()
        assert not finished.wait(0.05)
    assert finished.wait(10)
    thread.join()


def test_a_writer_of_this_process_does_not_wait_for_ever(hurried):
    errors = []

    def write():
        try:
            with hurried.write():
                pass
        except UnavailableError as error:
            errors.append(error)

    with hurried.write():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
    assert len(errors) == 1


def test_a_lock_held_by_a_stranger_ends_in_unavailable_and_loses_nothing(database_path, hurried):
    stranger = connect(database_path)
    stranger.execute("begin immediate")
    jobs = JobRepository(hurried)
    with pytest.raises(UnavailableError, match="busy") as refused:
        jobs.submit(an_upload(), UNLIMITED)
    assert refused.value.status == 503
    assert jobs.claim("w", 60) is None
    stranger.execute("rollback")
    stranger.close()
    receipt = jobs.submit(an_upload(), UNLIMITED)
    assert jobs.claim("w", 60).job_id == receipt.job_id


def test_an_exception_undoes_the_whole(room):
    def write_and_fail():
        with room.database.write() as connection:
            connection.exec_driver_sql("insert into upload_rate_limits values ('ada', 'now', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert room.counts()["upload_rate_limits"] == 0
    room.submit()


def test_a_full_disk_is_storage_full_and_leaves_the_database_sound(room):
    with room.database.write() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()

    def cap(connection, *_):
        connection.execute(f"pragma max_page_count = {pages + 2}")

    event.listen(room.database._engine, "checkout", cap)
    submits = iter(room.submit, None)
    with pytest.raises(StorageFullError, match="full") as refused:
        deque(itertools.islice(submits, 100), maxlen=0)
    assert refused.value.status == 507
    event.remove(room.database._engine, "checkout", cap)
    counts = room.counts()
    assert counts["images"] == counts["processing_jobs"] == counts["image_upload_events"]
    assert room.row("pragma integrity_check") == {"integrity_check": "ok"}


def test_wrong_sql_is_our_fault_and_not_an_outage(database):
    with pytest.raises(ImageProcessorError, match="no such table") as refused, database.read() as connection:
        connection.exec_driver_sql("select * from nowhere")
    assert not isinstance(refused.value, UnavailableError)
    assert refused.value.__cause__ is not None


def test_more_threads_than_connections_are_told_so(database_path, monkeypatch):
    database = Database.open(database_path, busy_timeout_seconds=0.05)
    taken = [database._engine.connect() for _ in range(64)]
    with pytest.raises(UnavailableError, match="no free connection"):
        database.ping()
    for connection in taken:
        connection.close()
    database.ping()
    database.close()


def test_damage_is_found(database_path, room):
    for _ in range(200):
        room.submit()
    assert room.database.damage() is None
    room.database.close()
    pages = bytearray(database_path.read_bytes())
    pages[-40_000:-20_000] = b"\xff" * 20_000
    database_path.write_bytes(pages)
    damaged = Database.open(database_path)
    assert damaged.damage()
    damaged.close()


# Opening


def test_open_makes_the_folder(tmp_path):
    database = Database.open(tmp_path / "new" / "folder" / "processor.db")
    database.migrate()
    JobRepository(database).submit(an_upload(), UNLIMITED)
    database.close()


@pytest.mark.parametrize("wrong", ["not a database", "a folder", "below a file", "in memory"])
def test_what_cannot_be_a_database_is_a_configuration_error(tmp_path, wrong):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_bytes(b"This is not a database. " * 100)
    folder.mkdir()
    path = {
        "not a database": file,
        "a folder": folder,
        "below a file": file / "processor.db",
        "in memory": Path(":memory:"),
    }[wrong]
    with pytest.raises(ConfigurationError):
        Database.open(path)


def test_a_database_that_is_locked_while_opening_is_busy_not_misconfigured(tmp_path):
    path = tmp_path / "processor.db"
    stranger = connect(path)
    stranger.execute("create table t (x)")
    stranger.execute("begin exclusive")
    with pytest.raises(UnavailableError, match="busy"):
        Database.open(path, busy_timeout_seconds=0.05)
    stranger.close()


def test_the_interpreters_own_sqlite_serves_where_there_is_no_wheel(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    assert module._load_sqlite() is sqlite3.dbapi2


# Migration


def test_migrating_twice_changes_nothing(database, room):
    room.submit()
    before = schema(database), room.counts()
    database.migrate()
    assert (schema(database), room.counts()) == before


def test_threads_may_migrate_at_once(tmp_path):
    databases = [Database.open(tmp_path / f"{n % 2}.db") for n in range(6)]
    errors = []

    def migrate(database):
        try:
            database.migrate()
        except ImageProcessorError as error:
            errors.append(error)

    threads = [threading.Thread(target=migrate, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert schema(databases[0]) == schema(databases[1])
    for database in databases:
        database.close()


def test_tables_of_a_newer_program_are_refused(database, room):
    room.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationError, match="9999"):
        database.migrate()


def test_a_migration_that_fails_leaves_nothing(tmp_path):
    database = Database.open(tmp_path / "processor.db")
    with database.write() as connection:
        connection.exec_driver_sql("create table upload_rate_limits (other text)")
    with pytest.raises(ImageProcessorError, match="already exists"):
        database.migrate()
    assert [row.name for row in schema(database)] == ["upload_rate_limits"]
    database.close()
