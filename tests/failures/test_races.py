"""Two who want one job to end in different ways, hundreds of times, each on connections of its own."""

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from image_processor.errors import StorageError
from image_processor.jobs import Database, EventType, JobRepository
from image_processor.jobs.clock import statement
from integration.jobs.conftest import AT_ONCE, Room
from integration.jobs.job_samples import some_facts
from running_service import IS_SOAK

pytestmark = pytest.mark.slow

ROUNDS = 1000 if IS_SOAK else 300
RETRIES = 20


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres_url")
    else:
        memory = Path("/dev/shm")  # a race is as real where a commit does not wait for a disk
        folder = memory / tmp_path.name if memory.is_dir() else tmp_path
        folder.mkdir(exist_ok=True)
        yield folder / "jobs.db"
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rooms(where):
    """Two of them: what one holds does not keep the other waiting but through the database."""
    with closing(Database.open(where)) as first, closing(Database.open(where)) as second:
        first.migrate()
        yield Room(where, first, AT_ONCE), Room(where, second, AT_ONCE)


def test_of_cancel_and_complete_exactly_one_wins_each_time(rooms):
    worker, user = rooms
    claims = [worker.claim() for _ in range(ROUNDS)]
    start, answers = threading.Barrier(2), {}

    def complete():
        for claim in claims:
            start.wait()
            answers[claim.job_id] = worker.jobs.complete(claim, some_facts())

    def cancel():
        for claim in claims:
            start.wait()
            user.jobs.cancel(claim.job_id, "ada")

    threads = [threading.Thread(target=work) for work in (complete, cancel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = all_outcomes(user)
    for claim in claims:
        expected = COMPLETED if answers[claim.job_id] else CANCELLED
        assert tuple(map(_plain, outcomes[claim.job_id])) == expected
    print(f"\n{sum(answers.values())} of {len(answers)} completed")


def _plain(value):
    """SQLite says 1 for true."""
    return bool(value) if isinstance(value, int) else value


COMPLETED = ("completed", None, True, True, "completed")
CANCELLED = ("failed", "cancelled", False, False, "cancel_requested failed")


def all_outcomes(room):
    """Of each job its state, whether it and its image show a result, and how its trail ends."""
    with room.database.read() as connection:
        jobs = connection.execute(
            statement("""
              select processing_jobs.job_id, status, reason, processed_paths is not null,
                variants is not null
              from processing_jobs join images on images.job_id = processing_jobs.job_id""")
        ).all()
        events = connection.execute(
            statement("select job_id, event_type from image_upload_events order by <event_order>")
        ).all()
    trails = {}
    for job_id, event in events:
        trails.setdefault(job_id, []).append(event)
    return {job_id: (*state, " ".join(trails[job_id][2:])) for job_id, *state in jobs}


def test_of_twenty_retries_of_a_dead_letter_one_begins_it_anew(rooms):
    room = rooms[0]
    dead = room.claim(max_retries=0)
    room.jobs.fail(dead, StorageError("It failed."))
    databases = [Database.open(room.where) for _ in range(RETRIES)]
    start, answers = threading.Barrier(RETRIES), []

    def retry(database):
        jobs = JobRepository(database)
        start.wait()
        answers.append(jobs.replay(dead.job_id, user_id="ada"))

    threads = [threading.Thread(target=retry, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert sorted(answers) == [False] * (RETRIES - 1) + [True]
    assert [event.event_type for event in room.jobs.events(dead.job_id)].count(EventType.REPLAYED) == 1
    row = room.job_row(dead.job_id)
    assert (row["status"], row["attempt_count"], row["dispatch_count"]) == ("pending", 0, 1)
