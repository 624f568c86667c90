"""Query plans: what runs often must not read more rows as the table grows."""

import pytest

from image_processor.jobs import images, listing, owners, recovery, repository, statistics, transitions

PAGE_OF_FAILED = listing.page_statement(["statuses", "last_id"]).bindparams(
    statuses=["failed"], user_id="", last_at="", last_id="", limit=1
)
PLANS = [
    (transitions.CLAIM_BEST, "COVERING INDEX jobs_due"),
    (transitions.ANY_DUE, "COVERING INDEX jobs_due"),
    (transitions.CLAIM_ONE, "sqlite_autoindex_processing_jobs_1 (job_id=?)"),
    (transitions.HEARTBEAT, "sqlite_autoindex_processing_jobs_1 (job_id=?)"),
    (transitions.COMPLETE, "sqlite_autoindex_processing_jobs_1 (job_id=?)"),
    (transitions.SETTLE, "sqlite_autoindex_processing_jobs_1 (job_id=?)"),
    (transitions.LEASES_ENDED, "INDEX jobs_lease (lease_until<?)"),
    (transitions.LEASES_OF_WORKER, "INDEX jobs_lease"),
    (transitions.EXPIRE, "INDEX jobs_expiry (expires_at<?)"),
    (repository.NEXT_DUE, "COVERING INDEX jobs_expiry (expires_at>?)"),
    (repository.LIVE_TWIN, "INDEX jobs_dedupe (user_id=? AND dedupe_key=?)"),
    (repository.COMPLETED_TWIN, "INDEX jobs_reusable (user_id=? AND dedupe_key=?)"),
    (listing.failed_statement(["user_id"]), "INDEX jobs_failed_by_user (user_id=?)"),
    (
        listing.failed_statement(["user_id", "last_id"]),
        "INDEX jobs_failed_by_user (user_id=? AND (completed_at,job_id)<(?,?))",
    ),
    (listing.failed_statement(["last_id"]), "INDEX jobs_failed ((completed_at,job_id)<(?,?))"),
    (
        PAGE_OF_FAILED,
        "INDEX jobs_by_status (user_id=? AND status=? AND (created_at,job_id)<(?,?))",
    ),
    (owners.OWNERS.bindparams(ids=["a", "b"]), "sqlite_autoindex_images_1 (image_id=?)"),
    (owners.OWNERS.bindparams(ids=["a", "b"]), "sqlite_autoindex_webhook_deliveries_1 (delivery_id=?)"),
    (repository.STAGED.bindparams(staging_paths=["a", "b"]), "INDEX jobs_staging (staging_path=?)"),
    (repository.EVENTS, "INDEX events_by_job (job_id=?)"),
    (images.BEGIN_PURGE, "INDEX images_to_purge (purge_after<?)"),
    (recovery.PRUNABLE, "INDEX jobs_failed (completed_at<?)"),
    (recovery.PRUNABLE, "INDEX images_deleted (deleted_at<?)"),
    (recovery.DELETE_EVENTS, "INDEX events_by_job (job_id=?)"),
    (recovery.DELETE_IMAGE, "INDEX jobs_by_image (image_id=?)"),
    (statistics.STATUS_BREAKDOWN, "COVERING INDEX jobs_expiry"),
    (statistics.STATUS_BREAKDOWN, "COVERING INDEX jobs_lease"),
    (statistics.STATUS_BREAKDOWN, "COVERING INDEX jobs_completed"),
    (statistics.STATUS_BREAKDOWN, "COVERING INDEX jobs_failed"),
    (statistics.COMPLETED_SINCE, "INDEX jobs_completed (completed_at>?)"),
]


@pytest.fixture
def where(database_path):
    """SQLite's; PostgreSQL has a module of its own."""
    return database_path


def plan(room, statement):
    with room.database.read() as connection:
        compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
        parameters = tuple(0 for _ in compiled.positiontup)
        rows = connection.exec_driver_sql(f"explain query plan {compiled}", parameters)
        return [row.detail for row in rows]


@pytest.mark.parametrize(("statement", "index"), PLANS)
def test_plan(room, statement, index):
    details = plan(room, statement)
    assert any(index in detail for detail in details), details
    whole = [detail for detail in details if detail in {"SCAN processing_jobs", "SCAN images"}]
    assert whole == []


@pytest.mark.parametrize(
    "statement",
    [
        *(transitions.CLAIM_BEST, transitions.LEASES_ENDED),
        PAGE_OF_FAILED,
        *(
            listing.failed_statement(given)
            for given in ([], ["last_id"], ["user_id"], ["user_id", "last_id"])
        ),
    ],
)
def test_order_comes_from_the_index(room, statement):
    assert not [detail for detail in plan(room, statement) if "TEMP B-TREE" in detail]


def test_plans_do_not_change_with_a_full_table_that_was_analysed(room):
    for _ in range(300):
        room.submit()
    room.execute(
        "update processing_jobs set status = 'failed', reason = 'expired', completed_at = '2' where rowid > 9"
    )
    room.execute("analyze")
    for statement, index in PLANS[:9]:
        assert any(index in detail for detail in plan(room, statement)), plan(room, statement)
