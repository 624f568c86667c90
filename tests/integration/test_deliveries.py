import pytest

from image_processor.errors import (
    AddressRefusedError,
    CorruptImageError,
    EngineCrashedError,
    EngineError,
    SourceUnavailableError,
    UnavailableError,
)
from image_processor.jobs import Database, RetryPolicy, deliveries
from image_processor.jobs.deliveries import DELIVERY_RETRIES, MAX_RETRY_AFTER_SECONDS, DeliveryRepository
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts
from integration.post_office import NOWHERE, PostOffice

REFUSED = SourceUnavailableError("The receiver answered 500.")


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def database(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("deliveries") / "jobs.db"
    if request.param == "postgresql":
        where = request.getfixturevalue("postgres").new_database()
    database = Database.open(where)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def office(database):
    office = PostOffice(database)
    yield office
    office.close()
    for table in ("webhook_deliveries", "image_upload_events", "processing_jobs", "images"):
        office.execute(f"delete from {table}")


def waiting(office, **fields):
    return office.jobs.submit(an_upload(callback_url=NOWHERE, **fields), UNLIMITED)


def reject(office):
    claim = office.claim()
    office.jobs.fail(claim, CorruptImageError("The image is damaged."))
    return claim


def exhaust(office):
    claim = office.claim(max_retries=1)
    office.jobs.fail(claim, EngineError("The engine failed."))
    assert office.of(claim) == []
    office.jobs.fail(office.jobs.claim("worker-1", 60.0, claim.job_id), EngineError("The engine failed."))
    return claim


def poison(office):
    claim = office.claim()
    for _ in range(2):
        office.jobs.fail(claim, EngineCrashedError("The engine's process died."))
        claim = office.jobs.claim("worker-1", 60.0, claim.job_id)
    office.jobs.fail(claim, EngineCrashedError("The engine's process died."))
    return claim


def expire(office):
    receipt = waiting(office, ttl_seconds=0.0)
    assert [settled.job_id for settled in office.recovery.expire()] == [receipt.job_id]
    return receipt


def cancel_waiting(office):
    receipt = waiting(office)
    office.jobs.cancel(receipt.job_id, "ada")
    return receipt


def cancel_running(office):
    claim = office.claim()
    office.jobs.cancel(claim.job_id, "ada")
    assert office.of(claim) == []
    office.jobs.end_cancelled(claim)
    return claim


ENDS = {
    "rejected": reject,
    "exhausted": exhaust,
    "poison": poison,
    "expired": expire,
    "cancelled": cancel_waiting,
    "cancelled_while_running": cancel_running,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_failed_is_due_to_be_told_once(office, end):
    ended = ENDS[end](office)
    (delivery,) = office.deliveries.deliveries(ended.job_id, "ada")
    job = office.jobs.job(ended.job_id, "ada")
    assert (delivery.event_type, delivery.status, delivery.url) == ("job.failed", "pending", NOWHERE)
    assert delivery.event == {
        "job_id": job.job_id,
        "image_id": job.image_id,
        "status": "failed",
        "reason": end.removesuffix("_while_running"),
        "error": job.error,
        "error_code": job.error_code,
        "attempts": job.attempt_count,
        "created_at": job.created_at,
        "completed_at": job.completed_at,
    }


def test_a_job_that_completed_is_due_to_be_told_once(office):
    delivery = office.only(office.complete())
    assert (delivery.event_type, delivery.event["status"]) == ("job.completed", "completed")
    assert (delivery.event["reason"], delivery.event["error"]) == (None, None)
    assert (delivery.attempt_count, delivery.completed_at) == (0, None)


def test_a_job_that_is_replayed_is_told_of_again_with_another_id(office):
    claim = poison(office)
    first = office.only(claim)
    assert office.jobs.replay(claim.job_id, user_id="ada")
    assert office.only(claim) == first
    office.jobs.complete(office.jobs.claim("worker-1", 60.0, claim.job_id), some_facts())
    assert {delivery.event_type for delivery in office.of(claim)} == {"job.failed", "job.completed"}
    assert len({delivery.delivery_id for delivery in office.of(claim)}) == 2


def test_a_job_without_a_callback_or_not_yet_at_rest_is_not_told_of(office):
    assert office.of(office.complete(None)) == []
    claim = office.claim()
    office.jobs.fail(claim, EngineError("The engine failed."))
    assert office.of(claim) == []
    assert office.deliveries.next_due_in() is None
    assert office.deliveries.claim(60.0) is None


def test_a_claim_is_exclusive_until_its_lease_ends_and_then_the_older_one_is_void(office):
    office.complete()
    older = office.deliveries.claim(60.0)
    assert (older.status, older.attempt_count, older.claim_seq) == ("delivering", 1, 1)
    assert office.deliveries.claim(60.0) is None
    assert 50 < office.deliveries.next_due_in() <= 60
    office.end_leases()
    newer = office.deliveries.claim(60.0)
    assert (newer.delivery_id, newer.attempt_count, newer.claim_seq) == (older.delivery_id, 2, 2)
    assert office.deliveries.failed(older, error=REFUSED, response_status=500) is None
    assert not office.deliveries.release(older)
    assert not office.deliveries.delivered(older, 200)
    assert office.deliveries.delivered(newer, 204)
    assert not office.deliveries.delivered(newer, 204)
    assert office.deliveries.failed(newer, error=REFUSED, response_status=500) is None


def test_the_longest_due_is_first_and_users_at_rest_are_left_out(office):
    first, second = office.complete(user_id="ada"), office.complete(user_id="bob")
    office.execute("update webhook_deliveries set run_at = run_at - 5 where job_id = :id", id=first.job_id)
    assert office.deliveries.claim(60.0, resting=["ada", "bob"]) is None
    assert office.deliveries.claim(60.0, resting=["ada"]).job_id == second.job_id
    assert office.deliveries.claim(60.0).job_id == first.job_id


def seconds(*pauses):
    """These pauses, on a machine that may take its time to look."""
    return pytest.approx(pauses, abs=4)


def test_the_pauses_grow_and_the_last_attempt_is_the_last(office):
    job = office.complete()
    repository = DeliveryRepository(office.database, max_retries=7, jitter=lambda: 0.0)
    pauses = []
    while claim := repository.claim(60.0):
        if repository.failed(claim, error=REFUSED, response_status=500) == "retrying":
            pauses.append(office.deliveries.next_due_in())
            office.execute("update webhook_deliveries set run_at = 0 where status = 'retrying'")
    assert tuple(pauses) == seconds(*DELIVERY_RETRIES.delays_seconds, 21_600)
    delivery = office.only(job)
    assert (delivery.status, delivery.attempt_count, delivery.response_status) == ("failed", 8, 500)
    assert (delivery.last_error, delivery.next_attempt_at) == (REFUSED.message, None)
    assert delivery.completed_at >= delivery.created_at


def test_pauses_are_not_in_step(office):
    office.complete()
    repository = DeliveryRepository(
        office.database, policy=RetryPolicy(delays_seconds=(100.0,)), jitter=lambda: 1.0
    )
    repository.failed(repository.claim(60.0), error=REFUSED, response_status=500)
    assert (office.deliveries.next_due_in(),) == seconds(110)


@pytest.mark.parametrize(
    ("asked_for", "granted"), [(None, 20), (5.0, 20), (90.0, 90), (1e12, MAX_RETRY_AFTER_SECONDS), (-3.0, 20)]
)
def test_a_pause_that_the_receiver_asks_for_is_granted_up_to_an_hour(office, asked_for, granted):
    office.complete()
    repository = office.deliveries_with(RetryPolicy(delays_seconds=(20.0,)))
    repository.failed(repository.claim(60.0), error=REFUSED, response_status=429, retry_after=asked_for)
    assert (office.deliveries.next_due_in(),) == seconds(granted)


def test_what_cannot_get_better_ends_it_at_once(office):
    job = office.complete()
    error = AddressRefusedError("The URL leads to an address that is not public.")
    assert (
        office.deliveries.failed(office.deliveries.claim(60.0), error=error, response_status=None) == "failed"
    )
    assert (office.only(job).attempt_count, office.only(job).last_error) == (1, error.message)
    assert office.deliveries.next_due_in() is None


def test_what_is_not_the_receivers_fault_costs_no_attempt(office):
    job = office.complete()
    error = UnavailableError("The database is busy; try again later.")
    claim = office.deliveries.claim(60.0)
    assert office.deliveries.failed(claim, error=error, response_status=None) == "retrying"
    assert office.only(job).attempt_count == 0


def test_a_delivery_that_is_released_is_due_at_once_with_its_attempt(office):
    job = office.complete()
    assert office.deliveries.release(office.deliveries.claim(60.0))
    assert (office.only(job).status, office.only(job).attempt_count) == ("pending", 0)
    assert office.deliveries.claim(60.0).claim_seq == 2


def test_a_delivery_whose_senders_all_died_is_given_up(office):
    job, other = office.complete(), office.complete()
    office.execute("update webhook_deliveries set run_at = run_at + 1000 where job_id = :id", id=other.job_id)
    for attempt in range(1, office.max_retries + 2):
        assert office.deliveries.claim(60.0).attempt_count == attempt
        office.end_leases()
    office.execute("update webhook_deliveries set run_at = 1 where job_id = :id", id=other.job_id)
    assert office.deliveries.claim(60.0).job_id == other.job_id
    assert (office.only(job).status, office.only(job).attempt_count) == ("failed", office.max_retries + 1)
    assert "stopped" in office.only(job).last_error


@pytest.mark.parametrize("accepted", [True, False])
def test_a_replay_begins_anew_under_the_same_id_however_often_it_is_asked_for(office, accepted):
    job = office.complete()
    claim = office.deliveries.claim(60.0)
    if accepted:
        office.deliveries.delivered(claim, 200)
    else:
        office.deliveries.failed(claim, error=CorruptImageError("No."), response_status=410)
    for _ in range(2):
        replayed = office.deliveries.replay(claim.delivery_id, "ada")
        assert (replayed.status, replayed.attempt_count, replayed.last_error) == ("pending", 0, None)
        assert (replayed.completed_at, replayed.response_status) == (None, None)
    again = office.deliveries.claim(60.0)
    assert (again.delivery_id, again.attempt_count) == (claim.delivery_id, 1)
    assert office.deliveries.replay(claim.delivery_id, "ada").status == "delivering"
    assert not office.deliveries.delivered(claim, 200)
    assert office.deliveries.delivered(again, 200)
    assert len(office.of(job)) == 1


def test_what_is_somebody_elses_is_not_there(office):
    job = office.complete()
    delivery = office.only(job)
    assert office.deliveries.deliveries(job.job_id, "bob") == []
    assert office.deliveries.delivery(delivery.delivery_id, "bob") is None
    assert office.deliveries.replay(delivery.delivery_id, "bob") is None
    assert office.deliveries.delivery(delivery.delivery_id, "ada") == delivery


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (deliveries.ANY_DUE.bindparams(resting=["slow"]), "INDEX deliveries_due (run_at<?)"),
        (deliveries.CLAIM.bindparams(resting=["slow"], lease_seconds=1.0), "INDEX deliveries_due (run_at<?)"),
        (deliveries.NEXT_DUE, "INDEX deliveries_due"),
        (deliveries.OF_JOB, "INDEX deliveries_by_job (job_id=?)"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_deliveries_that_came_to_rest_cost_nothing(office, sql, index):
    with office.database.read() as connection:
        compiled = sql.compile(connection, compile_kwargs={"render_postcompile": True})
        values = tuple(0 for _ in compiled.positiontup)
        details = [row.detail for row in connection.exec_driver_sql(f"explain query plan {compiled}", values)]
    assert any(index in detail for detail in details), details
    assert "SCAN webhook_deliveries" not in details


def test_what_strangers_say_is_kept_short_and_clean(office):
    job = office.complete()
    error = SourceUnavailableError("\x00\x1b[2J\udcff" + "word " * 1000)
    office.deliveries.failed(office.deliveries.claim(60.0), error=error, response_status=None)
    kept = office.only(job).last_error
    assert kept.startswith(" [2J")
    assert kept.isprintable()
    assert len(kept) == 500
