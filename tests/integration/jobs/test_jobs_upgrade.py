"""Tables of the revision before, with jobs in them: brought to the newest form, with nothing lost."""

import importlib

import pytest
from alembic import command
from sqlalchemy import inspect

from image_processor.errors import StorageError
from image_processor.jobs import Database
from image_processor.jobs.database import newest_revision
from integration.jobs.conftest import Room


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A new one: there is no way back from the newest form."""
    if request.param == "sqlite":
        return tmp_path / "jobs.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def before(where, monkeypatch):
    """A database as the revision before left it."""
    newest = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _to: newest(config, "0003"))
        database = Database.open(where)
        database.migrate()
    yield database
    database.close()


def indexes(database):
    with database.read() as connection:
        return {
            found["name"]: found["column_names"]
            for found in inspect(connection).get_indexes("processing_jobs")
        }


def test_jobs_from_before_are_listed_and_go_on(before, where):
    room = Room(where, before)
    failed = room.claim(max_retries=0)
    room.jobs.fail(failed, StorageError("It failed."))
    waiting = room.submit(sha256="b" * 64)
    rows = room.counts()
    before.migrate()
    assert room.counts() == rows
    with before.read() as connection:
        assert connection.exec_driver_sql("select version_num from alembic_version").scalars().all() == [
            newest_revision()
        ]
    made = importlib.import_module("image_processor.jobs.migrations.versions.0004_pages").INDEXES
    assert {name: indexes(before)[name] for name in made} == made
    assert [job.job_id for job in room.listing.failed("ada", limit=5).jobs] == [failed.job_id]
    assert {job.job_id for job in room.listing.page("ada", limit=5).jobs} == {failed.job_id, waiting.job_id}
    assert room.replay(failed.job_id)
