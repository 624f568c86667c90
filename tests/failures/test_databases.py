"""Databases that are locked, restarted, old or careless about power cuts, below real processes."""

import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy import Engine, event

import image_processor
from image_processor.errors import UnavailableError
from image_processor.jobs import Database
from image_processor.maintenance import Sweeper
from image_processor.storage.memory import MemoryStorage
from image_processor.testing import sample_images
from integration.test_worker import WorkerProcess
from integration.workshop import PATIENCE_SECONDS, Workshop
from postgres_server import PostgresServer
from running_service import Service, upload, wait_for_result

PATIENCE_OF_A_WRITER = 10.0
"""So long does a writer wait for the lock: a promise."""


# SQLite and its one writer


@pytest.mark.slow
def test_a_writer_that_holds_its_lock_for_12_s_costs_an_upload_its_time_and_no_job(tmp_path):
    """An upload is refused in time and in words, reading goes on, and what was accepted is done after."""
    service = Service(tmp_path)
    service.start()
    try:
        with service.client() as client:
            accepted = upload(client, sample_images.photo(501, 200)).json()["job_id"]
            stranger = sqlite3.connect(tmp_path / "data" / "processor.db", isolation_level=None)
            with closing(stranger):
                stranger.execute("begin immediate")
                locked_at = time.monotonic()
                answer = upload(client, sample_images.photo(502, 200))
                took = time.monotonic() - locked_at
                assert client.get(f"/api/v1/images/jobs/{accepted}").status_code == 200
                time.sleep(max(0.0, locked_at + 12 - time.monotonic()))
                stranger.execute("rollback")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert took < PATIENCE_OF_A_WRITER + 2
            assert wait_for_result(client, accepted).status_code == 200
            again = upload(client, sample_images.photo(502, 200))
            assert again.status_code == 202
            assert wait_for_result(client, again.json()["job_id"]).status_code == 200
        assert service.rows("select count(*) from processing_jobs") == [(2,)]
        needed = {row[0] for row in service.rows("select staging_path from processing_jobs")}
        service.wait_for(lambda: needed.isdisjoint(service.staged()), "the originals to go")
        assert len(service.staged()) <= 1, "the one that was refused is left to the sweeper"
    finally:
        service.stop()


def test_who_queued_behind_others_of_the_process_waits_no_longer_for_strangers(tmp_path):
    patience = 1.0
    database = Database.open(tmp_path / "jobs.db", busy_timeout_seconds=patience)
    stranger = Database.open(tmp_path / "jobs.db")
    took = []

    def write(after):
        time.sleep(after)
        started = time.monotonic()
        with pytest.raises(UnavailableError), database.write():
            pytest.fail("the stranger has the lock")
        took.append(time.monotonic() - started)

    with closing(database), closing(stranger), stranger.write():
        threads = [threading.Thread(target=write, args=(0.3 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert len(took) == 4
    assert max(took) < patience + 0.4, "as one queue, they would have waited for up to twice the time"


def test_a_writer_that_had_to_queue_is_as_patient_the_next_time(tmp_path):
    with closing(Database.open(tmp_path / "jobs.db", busy_timeout_seconds=7.0)) as database:
        for _ in range(2):
            with database.write() as connection:
                assert connection.exec_driver_sql("pragma busy_timeout").scalar_one() == 7000


@pytest.mark.slow
def test_an_sqlite_that_can_corrupt_the_database_is_flagged(tmp_path):
    """The interpreter's own, where that is one; the wheel's is hidden from it."""
    code = (
        "import sys; sys.modules['pysqlite3'] = None\n"
        "from image_processor.jobs.sqlite import driver, has_wal_reset_bug\n"
        "if len(sys.argv) > 1: driver.sqlite_version_info = (3, 51, 2)\n"
        "from image_processor.cli import app\n"
        "sys.argv = ['image-processor', 'doctor']\n"
        "app()\n"
    )
    import sqlite3 as interpreters  # noqa: PLC0415

    is_old = interpreters.sqlite_version_info < (3, 44)
    environment = {"DATA_PATH": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code, *([] if is_old else ["pretend"])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(" sqlite")]
    assert "problem" in line
    assert "can corrupt a database" in line


# Power cuts


@pytest.fixture
def durability():
    """What each connection that committed had been told of the disk."""
    found = []
    asks = {"sqlite": "pragma synchronous", "postgresql": "show synchronous_commit"}

    def look(connection):
        if connection.get_execution_options().get("begin") != "begin":  # who only reads has nothing to keep
            found.append(connection.exec_driver_sql(asks[connection.dialect.name]).scalar_one())

    event.listen(Engine, "commit", look)
    yield found
    event.remove(Engine, "commit", look)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_commit_of_a_jobs_life_is_on_the_disk(kind, tmp_path, request, monkeypatch, durability):
    if kind == "postgresql":
        url, server = request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres")
        server.execute(f"alter database {url.rsplit('/', 1)[1]} set synchronous_commit = off")
        opened = Database.open(url)
        monkeypatch.setattr("integration.workshop.Database.open", lambda _path, **_: opened)
    with closing(Workshop(tmp_path, MemoryStorage(), grace_seconds=0.0)) as shop:
        shop.run()
        done = shop.run()
        shop.images.delete(done.claim.image_id, "ada")
        sweeper = Sweeper(shop.house())
        sweeper.tick()
        sweeper.clean()
        shop.workers.report("worker-1", 1)
    assert set(durability) == {{"sqlite": 2, "postgresql": "on"}[kind]}
    assert len(durability) > 10


def test_nothing_else_opens_a_database():
    """Else a connection might not be told."""
    package = Path(image_processor.__file__).parent
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(
            word in path.read_text() for word in ("create_engine(", "sqlite3.connect(", "psycopg.connect(")
        )
    }
    assert makers == {"jobs/sqlite.py", "jobs/postgresql.py"}


# PostgreSQL that restarts


@pytest.fixture
def server():
    with closing(PostgresServer(fsync=False)) as server:
        yield server.start()


@pytest.mark.slow
def test_a_finished_result_is_committed_after_the_server_is_back(server, tmp_path):
    """Meanwhile the API says 503, and when to ask again."""
    url = server.new_database()
    gate = tmp_path / "data" / "gate"
    service = Service(tmp_path, {"DATABASE_URL": url, "LOG_FORMAT": "json"}, ("--dev", "--port", "0"))
    worker = None
    try:
        service.start()
        (ours,) = service.processes("worker")
        ours.suspend()  # the worker at the gate is to have the job
        worker = WorkerProcess(tmp_path / "data", gate, DATABASE_URL=url)
        worker.wait_for("worker.started")
        with service.client() as client:
            job_id = upload(client, sample_images.photo(503, 200)).json()["job_id"]
            sql = "select status, claim_seq, attempt_count, crash_count from processing_jobs where job_id = ?"
            service.wait_for(lambda: service.rows(sql, job_id)[0][0] == "processing", "the claim")
            server.stop()
            gate.touch()
            worker.wait_for("job.commit.failed")
            refusals = [
                client.get(f"/api/v1/images/jobs/{job_id}"),
                upload(client, sample_images.photo(504, 200)),
                client.get("/api/v1/health"),
            ]
            assert [answer.status_code for answer in refusals] == [503] * 3
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in refusals[:2])
            server.start()
            worker.wait_for("job.completed")
            assert service.rows(sql, job_id) == [("completed", 1, 1, 0)]
            assert client.get(f"/api/v1/images/jobs/{job_id}/result").status_code == 200
        events = [json.loads(line)["event"] for line in worker.log if line.startswith("{")]
        assert "job.recovered" not in events
        assert events.count("job.completed") == 1
    finally:
        if worker is not None:
            worker.close()
        for process in service.processes("worker"):
            process.resume()
        service.stop()
