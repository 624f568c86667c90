"""What is PostgreSQL's own: plans, outages, timeouts, and what the server's errors are to us."""

import re
import sys
import threading

import pytest
from sqlalchemy import event

from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    InvalidRequestError,
    StorageFullError,
    UnavailableError,
)
from image_processor.jobs import (
    Database,
    JobRepository,
    Lease,
    idempotency,
    images,
    listing,
    recovery,
    repository,
    transitions,
)
from integration.jobs.conftest import Room
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts
from postgres_server import PostgresServer


@pytest.fixture
def where(empty_url):
    return empty_url


@pytest.fixture
def hurried(where):
    """The same database, with little patience."""
    database = Database.open(where, busy_timeout_seconds=0.1)
    yield database
    database.close()


# Plans

PLANS = [
    (transitions.CLAIM_BEST, ["jobs_due", "processing_jobs_pkey", "images_pkey"]),
    (transitions.ANY_DUE, ["jobs_due"]),
    (transitions.CLAIM_ONE, ["processing_jobs_pkey", "images_pkey"]),
    (transitions.HEARTBEAT, ["processing_jobs_pkey"]),
    (transitions.COMPLETE, ["processing_jobs_pkey"]),
    (transitions.SETTLE, ["processing_jobs_pkey"]),
    (transitions.CANCEL_WAITING, ["processing_jobs_pkey"]),
    (transitions.CANCEL_RUNNING, ["processing_jobs_pkey"]),
    (transitions.LEASES_ENDED, ["jobs_lease"]),
    (transitions.LEASES_OF_WORKER, ["jobs_lease"]),
    (transitions.EXPIRE, ["jobs_expiry", "processing_jobs_pkey"]),
    (repository.LIVE_TWIN, ["jobs_dedupe"]),
    (repository.COMPLETED_TWIN, ["jobs_reusable", "images_pkey"]),
    (repository.STAGED.bindparams(staging_paths=["a"]), ["jobs_staging", "images_pkey"]),
    (repository.EVENTS, ["events_by_job"]),
    (idempotency.FIND, ["idempotency_keys_pkey", "processing_jobs_pkey"]),
    (images.BEGIN_PURGE, ["images_to_purge", "images_pkey", "processing_jobs_pkey"]),
    (listing.failed_statement(["user_id"]), ["jobs_failed_by_user", "images_pkey", "job_progress_pkey"]),
    (
        listing.failed_statement(["user_id", "last_id"]),
        ["jobs_failed_by_user", "images_pkey", "job_progress_pkey"],
    ),
    (listing.failed_statement(["last_id"]), ["jobs_failed", "images_pkey", "job_progress_pkey"]),
    (listing.page_statement(["last_id"]), ["jobs_by_user", "images_pkey", "job_progress_pkey"]),
    (recovery.DELETE_JOB, ["processing_jobs_pkey", "images_pkey"]),
]
FINISHED = """
insert into images (image_id, user_id, bucket, job_id, sha256, source_format, source_bytes, created_at)
select 'image-' || n, 'user-' || n % 100, 'b', 'job-' || n, '', 'jpeg', 1, '2026'
from generate_series(1, 8000) n;
insert into processing_jobs (job_id, image_id, user_id, status, reason, preset, pipeline, pipeline_version,
  key_template, source_format, storage_bucket, staging_path, processed_paths, processing_metadata, run_at,
  expires_at, dedupe_key, created_at, completed_at)
select 'job-' || n, 'image-' || n, 'user-' || n % 100,
  case when n % 10 = 0 then 'failed' else 'completed' end, case when n % 10 = 0 then 'exhausted' end,
  'web', '{}', 1, '', 'jpeg', 'b', 'staged-' || n, case when n % 10 <> 0 then '{}' end, '{}', 1, 2,
  'key-' || n, '2026', '2026'
from generate_series(1, 8000) n;
insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
select 'event-' || n, 'completed', 'image-' || n, 'job-' || n, '{}', '2026' from generate_series(1, 8000) n;
insert into idempotency_keys (user_id, idempotency_key, fingerprint, job_id, image_id, created_at, expires_at)
select 'user-' || n % 100, 'key-' || n, '', 'job-' || n, 'image-' || n, '2026', 2
from generate_series(1, 8000) n;
insert into job_progress (job_id, claim_seq, percent, step, updated_at)
select 'job-' || n, 1, 100, 'store', 2 from generate_series(1, 8000) n;
"""


@pytest.fixture
def full_room(postgres_url):
    """Many finished jobs, as the planner knows; then some that wait and run, as it does not know yet."""
    database = Database.open(postgres_url)
    database.migrate()
    room = Room(postgres_url, database)
    fill(room)
    yield room
    database.close()


def fill(room):
    with room.database.write() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql(FINISHED.replace("%", "%%"))
    room.execute("analyze")
    for _ in range(20):
        room.submit()
        room.claim()


def generic_plan(room, statement):
    """The plan that a prepared statement gets when its parameters are not looked at any more."""
    with room.database.read() as connection:
        compiled = str(statement.compile(connection, compile_kwargs={"render_postcompile": True}))
        names = dict.fromkeys(re.findall(r"%\((\w+)\)s", compiled))
        numbers = {name: f"${place}" for place, name in enumerate(names, 1)}
        sql = re.sub(r"%\((\w+)\)s", lambda name: numbers[name[1]], compiled)
        connection.exec_driver_sql("set local plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"prepare asked as {sql}".replace("%", "%%"))
        nothing = f"({', '.join(['null'] * len(numbers))})" if numbers else ""
        plan = connection.exec_driver_sql(f"explain (costs off) execute asked{nothing}").scalars().all()
        connection.exec_driver_sql("deallocate asked")
    return plan


def test_what_runs_often_reads_no_more_rows_as_the_table_grows(full_room):
    for statement, indexes in PLANS:
        plan = generic_plan(full_room, statement)
        text = "\n".join(plan)
        used = set(re.findall(r"(?:using|Bitmap Index Scan on) (\w+)", text))
        assert used == set(indexes), text
        assert "Seq Scan" not in text


def test_a_claim_takes_its_order_from_the_index(full_room):
    assert "Sort" not in "\n".join(generic_plan(full_room, transitions.CLAIM_BEST))


# Outages


@pytest.fixture
def own_server():
    server = PostgresServer(fsync=False)
    yield server.start()
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_work_goes_on_after_the_server_was_away(own_server, how):
    database = Database.open(own_server.new_database(), busy_timeout_seconds=5.0)
    database.migrate()
    room = Room("", database)
    claims = [room.claim() for _ in range(3)]
    with pytest.raises(UnavailableError):
        delete_events_while(database, own_server.kill if how == "crash" else own_server.stop)
    with pytest.raises(UnavailableError) as refused:
        room.submit()
    assert refused.value.status == 503
    own_server.start()
    assert room.jobs.heartbeat(claims[0], 60) is Lease.HELD
    assert room.jobs.complete(claims[0], some_facts())
    assert len(room.jobs.events(claims[0].job_id)) == 3
    assert room.submit().job_id
    database.close()


def delete_events_while(database, happens):
    with database.write() as connection:
        connection.exec_driver_sql("delete from image_upload_events")
        happens()


def test_connections_that_the_server_ended_are_replaced_unnoticed(room, postgres):
    room.submit()
    name = room.where.rsplit("/", 1)[1]
    postgres.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    room.submit()
    assert room.counts()["processing_jobs"] == 2


def test_a_lock_that_is_not_to_be_had_in_time_is_busy(room, hurried):
    claim = room.claim()
    with room.database.write() as connection:
        connection.execute(transitions.LOCK, {"job_id": claim.job_id})
        with pytest.raises(UnavailableError, match="busy"):
            JobRepository(hurried).cancel(claim.job_id, "ada")
        assert JobRepository(hurried).claim("w", 60, claim.job_id) is None
    assert JobRepository(hurried).cancel(claim.job_id, "ada").cancel_requested


def test_writers_of_different_jobs_do_not_wait_for_each_other(room, hurried):
    claim = room.claim()
    with room.database.write() as connection:
        connection.execute(transitions.LOCK, {"job_id": claim.job_id})
        receipt = JobRepository(hurried).submit(an_upload(), UNLIMITED)
        assert JobRepository(hurried).claim("w", 60).job_id == receipt.job_id


def test_two_that_wait_for_each_other_are_both_told_and_one_goes_on(room):
    first, second = (room.claim().job_id for _ in range(2))
    barrier, outcomes = threading.Barrier(2), []

    def lock_both(job_ids):
        try:
            with room.database.write() as connection:
                connection.execute(transitions.LOCK, {"job_id": job_ids[0]})
                barrier.wait()
                connection.execute(transitions.LOCK, {"job_id": job_ids[1]})
        except UnavailableError as error:
            outcomes.append(error.details["sqlstate"])
        else:
            outcomes.append("done")

    orders = [(first, second), (second, first)]
    threads = [threading.Thread(target=lock_both, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["40P01", "done"]


# Settings and errors


def test_what_is_submitted_survives_a_power_cut_and_nothing_waits_for_ever(room):
    seen = []

    def look(connection):
        names = ("synchronous_commit", "lock_timeout", "statement_timeout", "transaction_isolation")
        seen.append([connection.exec_driver_sql(f"show {name}").scalar_one() for name in names])

    event.listen(room.database._engine, "commit", look)
    room.submit()
    assert seen == [["on", "10s", "30s", "read committed"]]


def test_a_reader_sees_one_state_and_writes_nothing(room):
    with room.database.read() as connection:
        before = connection.exec_driver_sql("select count(*) from processing_jobs").scalar_one()
        room.submit()
        assert connection.exec_driver_sql("select count(*) from processing_jobs").scalar_one() == before
    with pytest.raises(ImageProcessorError), room.database.read() as connection:
        connection.exec_driver_sql("delete from processing_jobs")
    assert room.counts()["processing_jobs"] == 1


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", StorageFullError),
        ("53300", UnavailableError),
        ("40001", UnavailableError),
        ("57P01", UnavailableError),
        ("57014", UnavailableError),
        ("08006", UnavailableError),
        ("58030", UnavailableError),
        ("22021", InvalidRequestError),
        ("23505", ImageProcessorError),
        ("42601", ImageProcessorError),
    ],
)
def test_what_the_servers_errors_are_to_us(room, state, expected):
    with pytest.raises(ImageProcessorError) as told, room.database.write() as connection:
        connection.exec_driver_sql(f"do $$ begin raise sqlstate '{state}'; end $$")
    assert type(told.value) is expected
    assert told.value.__cause__ is not None


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_cannot_be_stored_is_the_requests_fault(room, text):
    with pytest.raises(InvalidRequestError, match="cannot be stored"):
        room.submit(user_id=text)
    room.submit(metadata={"note": text})  # JSON writes it in ASCII


def test_an_error_text_is_stored_whatever_is_in_it(room):
    settlement = room.jobs.fail(room.claim(max_retries=0), ImageProcessorError("a\0b\ud800."))
    assert room.jobs.job(settlement.job_id, "ada").error == "a?b?."


# Opening and migrating


def test_nobody_at_the_address_is_an_outage(own_server):
    own_server.stop()
    with pytest.raises(UnavailableError) as outage:
        Database.open(own_server.url())
    assert outage.value.is_private


@pytest.mark.parametrize(
    "change", [("postgresql://", "mysql://"), ("postgresql://", "postgresql:"), ("/test_", "/no_")]
)
def test_a_url_that_can_never_work_is_a_configuration_error(postgres_url, change):
    with pytest.raises(ConfigurationError):
        Database.open(postgres_url.replace(*change))


def test_a_password_is_never_told(own_server):
    url = own_server.url("nowhere")
    for secret in (url.replace("postgres@", "postgres:s3cret@"), f"{url}?password=s3cret"):
        with pytest.raises(ConfigurationError, match="nowhere") as refused:
            Database.open(secret)
        assert "s3cret" not in str(refused.value)


def test_the_form_that_hosting_services_give_out_is_understood(where):
    database = Database.open(where.replace("postgresql://", "postgres://"))
    database.ping()
    database.close()


def test_a_missing_driver_is_named_with_the_extra(where, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=re.escape("image-processor[postgres]")):
        Database.open(where)


def test_tables_of_a_newer_program_are_refused(postgres_url):
    database = Database.open(postgres_url)
    database.migrate()
    with database.write() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationError, match="9999"):
        database.migrate()
    database.close()


def test_a_migration_that_fails_leaves_nothing(postgres_url):
    database = Database.open(postgres_url)
    with database.write() as connection:
        connection.exec_driver_sql("create table upload_rate_limits (other text)")
    with pytest.raises(ImageProcessorError, match="already exists"):
        database.migrate()
    with database.read() as connection:
        tables = connection.exec_driver_sql("select tablename from pg_tables where schemaname = 'public'")
        assert tables.scalars().all() == ["upload_rate_limits"]
    database.close()
