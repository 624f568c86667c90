"""Several processes on one database. None may see "database is locked", and none may get what another got."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from image_processor.jobs import Database, Reason, Status
from integration.jobs.job_samples import some_facts

CONTENDER = Path(__file__).with_name("contender.py")
PROCESSES = 4

pytestmark = pytest.mark.slow


def contend(role, path, processes=PROCESSES):
    """Start them, wait until each is ready, let all go at once; what each printed."""
    started = [
        subprocess.Popen(
            [sys.executable, CONTENDER, role, str(path), f"contender-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [json.loads(process.communicate()[0]) for process in started]
    assert [process.returncode for process in started] == [0] * processes
    return outcomes


def test_each_of_four_hundred_jobs_is_claimed_exactly_once(room):
    submitted = sorted(room.submit().job_id for _ in range(400))
    claimed = contend("claim", room.path)
    assert sorted(job_id for mine in claimed for job_id in mine) == submitted
    assert all(len(mine) > 0 for mine in claimed)
    assert room.statistics.statistics().status_breakdown[Status.COMPLETED] == 400
    per_job = room.row(
        "select max(n) as n from (select count(*) as n from image_upload_events group by job_id)"
    )
    assert per_job["n"] == 3
    assert room.row("pragma integrity_check") == {"integrity_check": "ok"}


def test_of_four_processes_exactly_as_many_uploads_pass_as_may(room):
    outcomes = [remaining for mine in contend("upload", room.path) for remaining in mine]
    assert outcomes.count(None) == PROCESSES * 30 - 57
    assert sorted(remaining for remaining in outcomes if remaining is not None) == list(range(57))
    assert room.counts()["processing_jobs"] == 57


def test_each_dead_lease_is_reaped_once_however_many_reap(room):
    for _ in range(60):
        room.claim(lease_seconds=-1)
    reaped = [job_id for mine in contend("reap", room.path) for job_id in mine]
    assert len(reaped) == len(set(reaped)) == 60
    assert room.row("select max(crash_count) as n from processing_jobs")["n"] == 1


def test_several_processes_may_migrate_an_empty_database_at_once(tmp_path, migrated):
    path = tmp_path / "fresh.db"
    assert contend("migrate", path) == ["migrated"] * PROCESSES
    fresh, template = Database.open(path), Database.open(migrated)
    assert schema(fresh) == schema(template)
    fresh.close()
    template.close()


def schema(database):
    with database.read() as connection:
        return connection.exec_driver_sql("select type, name, sql from sqlite_master order by 1, 2").all()


def test_cancel_and_complete_race_and_exactly_one_wins(room):
    rounds = 300
    claims = [room.claim() for _ in range(rounds)]
    start = threading.Barrier(2)
    completed = []

    def complete():
        for claim in claims:
            start.wait()
            completed.append(room.jobs.complete(claim, some_facts()))

    def cancel():
        for claim in claims:
            start.wait()
            room.jobs.cancel(claim.job_id, "ada")

    threads = [threading.Thread(target=complete), threading.Thread(target=cancel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for claim, won in zip(claims, completed, strict=True):
        job = room.jobs.job(claim.job_id, "ada")
        image = room.images.image(claim.image_id, "ada")
        expected = (Status.COMPLETED, None) if won else (Status.FAILED, Reason.CANCELLED)
        assert (job.status, job.reason) == expected
        assert bool(image.variants) is won
    assert len(completed) == rounds
