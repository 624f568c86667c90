"""The first tables: images, jobs, the audit trail, the rate limits, and the triggers that guard them."""

import sqlalchemy
from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Double, ForeignKey, Identity, Index, Integer, text

revision = "0001"
down_revision = None

# Bytes in order, on every machine: an index in a language's order is void when that is revised.
Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")
Long = Integer().with_variant(BigInteger(), "postgresql")

WAITING = text("status in ('pending', 'retrying')")
LIVE = text("status in ('pending', 'processing', 'retrying')")
NOW_ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
POSTGRESQL_NOW_ISO = "to_char(statement_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"


def upgrade() -> None:
    """Make everything; there is nothing before."""
    _create_images()
    _create_jobs()
    _index_jobs()
    _create_events()
    _create_rate_limits()
    _create_workers()
    now_iso, own = (POSTGRESQL_NOW_ISO, OWN_TO_POSTGRESQL) if _is_postgresql() else (NOW_ISO, TRIGGERS)
    for sql in own:
        op.execute(sql.replace("<now_iso>", now_iso))


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _create_images() -> None:
    op.create_table(
        "images",
        Column("image_id", Text, primary_key=True),
        Column("user_id", Text, nullable=False),
        Column("bucket", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("source_format", Text, nullable=False),
        Column("source_bytes", Long, nullable=False),
        Column("width", Integer),
        Column("height", Integer),
        Column("frames", Integer),
        Column("dominant_color", Text),
        Column("variants", Text),
        Column("created_at", Text, nullable=False),
        Column("deleted_at", Text),
        Column("purge_after", Double),
        Column("purging_until", Double),
        CheckConstraint("purging_until is null or purge_after is not null", "images_purging_has_a_reason"),
    )
    op.create_index("images_by_user", "images", ["user_id", "created_at"])
    for name, column in {"images_to_purge": "purge_after", "images_deleted": "deleted_at"}.items():
        where = text(f"{column} is not null")
        op.create_index(name, "images", [column], sqlite_where=where, postgresql_where=where)


def _create_jobs() -> None:
    op.create_table(
        "processing_jobs",
        Column("job_id", Text, primary_key=True),
        Column("image_id", Text, ForeignKey("images.image_id"), nullable=False),
        Column("user_id", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("reason", Text),
        Column("kind", Text, nullable=False, server_default="image"),
        Column("preset", Text, nullable=False),
        Column("pipeline", Text, nullable=False),
        Column("pipeline_version", Integer, nullable=False),
        Column("key_template", Text, nullable=False),
        Column("source_format", Text, nullable=False),
        Column("storage_bucket", Text, nullable=False),
        Column("staging_path", Text, nullable=False),
        Column("processed_paths", Text),
        Column("processing_metadata", Text, nullable=False),
        Column("attempt_count", Integer, nullable=False, server_default="0"),
        Column("max_retries", Integer, nullable=False, server_default="3"),
        Column("crash_count", Integer, nullable=False, server_default="0"),
        Column("timeout_count", Integer, nullable=False, server_default="0"),
        Column("claim_seq", Integer, nullable=False, server_default="0"),
        Column("worker_id", Text),
        Column("priority", Integer, nullable=False, server_default="1"),
        Column("run_at", Double, nullable=False),
        Column("lease_until", Double),
        Column("expires_at", Double, nullable=False),
        Column("cancel_requested_at", Double),
        Column("dispatched_at", Double),
        Column("dispatch_count", Integer, nullable=False, server_default="0"),
        Column("dedupe_key", Text),
        Column("last_error", Text),
        Column("error_code", Text),
        Column("created_at", Text, nullable=False),
        Column("started_at", Text),
        Column("completed_at", Text),
        *_job_checks(),
    )


def _job_checks() -> list[CheckConstraint]:
    checks = {
        "jobs_status": "status in ('pending', 'processing', 'completed', 'failed', 'retrying')",
        "jobs_reason": "reason in ('exhausted', 'poison', 'rejected', 'expired', 'cancelled')",
        "jobs_processing_has_a_lease": "(status = 'processing') = (lease_until is not null)",
        "jobs_processing_has_a_worker": "(status = 'processing') = (worker_id is not null)",
        "jobs_failed_has_a_reason": "(status = 'failed') = (reason is not null)",
        "jobs_final_has_a_time": "(status in ('completed', 'failed')) = (completed_at is not null)",
        "jobs_completed_has_paths": "(status = 'completed') = (processed_paths is not null)",
        "jobs_priority": "priority in (0, 1, 2)",
        "jobs_counts": "attempt_count >= 0 and crash_count >= 0 and timeout_count >= 0 and max_retries >= 0",
    }
    return [CheckConstraint(condition, name) for name, condition in checks.items()]


def _index_jobs() -> None:
    # No index over all statuses: the planner would take it in place of these.
    partial = {
        # Everything that a claim looks at stands in the index.
        "jobs_due": (["priority", "run_at", "job_id", "expires_at", "status"], WAITING),
        "jobs_expiry": (["expires_at", "run_at", "status"], WAITING),
        "jobs_lease": (["lease_until"], text("status = 'processing'")),
        "jobs_completed": (["completed_at"], text("status = 'completed'")),
        "jobs_failed": (["completed_at"], text("status = 'failed'")),
        "jobs_failed_by_user": (["user_id", "completed_at"], text("status = 'failed'")),
        "jobs_staging": (["staging_path"], text("status <> 'completed'")),
    }
    # Who asks for one job, by its id, that is being processed shall not find this one just as good.
    of_postgresql = {"jobs_lease": text("lease_until is not null")}
    for name, (columns, where) in partial.items():
        on_server = of_postgresql.get(name, where)
        op.create_index(name, "processing_jobs", columns, sqlite_where=where, postgresql_where=on_server)
    op.create_index("jobs_by_image", "processing_jobs", ["image_id"])
    op.create_index(
        "jobs_dedupe",
        "processing_jobs",
        ["user_id", "dedupe_key"],
        unique=True,
        sqlite_where=text(f"dedupe_key is not null and {LIVE.text}"),
        postgresql_where=text(f"dedupe_key is not null and {LIVE.text}"),
    )


def _create_events() -> None:
    op.create_table(
        "image_upload_events",
        Column("id", Text, primary_key=True),
        Column("event_type", Text, nullable=False),
        Column("image_id", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("metadata", Text, nullable=False),
        Column("created_at", Text, nullable=False),
        # SQLite has its rowid.
        *([Column("event_order", BigInteger, Identity(), nullable=False)] if _is_postgresql() else []),
        Index("events_by_job", "job_id"),
        Index("events_by_image", "image_id"),
    )


def _create_rate_limits() -> None:
    op.create_table(
        "upload_rate_limits",
        Column("user_id", Text, primary_key=True),
        Column("window_start", Text, primary_key=True),
        Column("upload_count", Integer, CheckConstraint("upload_count >= 1"), nullable=False),
    )


def _create_workers() -> None:
    op.create_table(
        "workers",
        Column("worker_id", Text, primary_key=True),
        Column("slots", Integer, nullable=False),
        Column("started_at", Text, nullable=False),
        Column("seen_at", Double, nullable=False),
    )


TRIGGERS = (
    """
    create trigger jobs_transition before update of status on processing_jobs
    when old.status <> new.status and old.status || '>' || new.status not in (
      'pending>processing', 'retrying>processing', 'processing>completed', 'processing>retrying',
      'processing>failed', 'processing>pending', 'pending>failed', 'retrying>failed', 'failed>pending')
    begin select raise(abort, 'illegal job transition'); end
    """,
    """
    create trigger jobs_birth before insert on processing_jobs
    when new.status <> 'pending'
    begin select raise(abort, 'a job begins as pending'); end
    """,
    """
    create trigger jobs_fence before update of status, claim_seq on processing_jobs
    when new.claim_seq <> old.claim_seq + (new.status = 'processing' and old.status <> 'processing')
    begin select raise(abort, 'claim_seq grows by one with every claim and never otherwise'); end
    """,
    """
    create trigger jobs_audit_submit after insert on processing_jobs
    begin
      insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
      values (lower(hex(randomblob(16))), 'upload_initiated', new.image_id, new.job_id,
              json_object('new', new.status, 'attempt', new.attempt_count, 'claim_seq', new.claim_seq),
              <now_iso>);
    end
    """,
    """
    create trigger jobs_audit_status after update of status on processing_jobs when old.status <> new.status
    begin
      insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
      values (lower(hex(randomblob(16))),
              case when new.status = 'processing' then 'processing_started'
                   when new.status <> 'pending' then new.status
                   when old.status = 'failed' then 'replayed'
                   else 'released' end,
              new.image_id, new.job_id,
              json_object('old', old.status, 'new', new.status, 'attempt', new.attempt_count,
                          'claim_seq', new.claim_seq, 'reason', new.reason, 'error_code', new.error_code),
              <now_iso>);
    end
    """,
    """
    create trigger jobs_audit_cancel after update of cancel_requested_at on processing_jobs
    when old.cancel_requested_at is null and new.cancel_requested_at is not null
    begin
      insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
      values (lower(hex(randomblob(16))), 'cancel_requested', new.image_id, new.job_id,
              json_object('attempt', new.attempt_count, 'claim_seq', new.claim_seq), <now_iso>);
    end
    """,
    """
    create trigger images_audit_delete after update of deleted_at on images
    when old.deleted_at is null and new.deleted_at is not null
    begin
      insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
      values (lower(hex(randomblob(16))), 'deleted', new.image_id, new.job_id, '{}', <now_iso>);
    end
    """,
)

_AUDIT = """
create function {name}() returns trigger language plpgsql as $$
begin
  insert into image_upload_events (id, event_type, image_id, job_id, metadata, created_at)
  values (replace(gen_random_uuid()::text, '-', ''), {event_type}, new.image_id, new.job_id,
          json_build_object({metadata})::text, <now_iso>);
  return null;
end $$
"""

_REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception '%', tg_argv[0]; end $$
"""

OWN_TO_POSTGRESQL = (
    _REFUSE,
    """
    create trigger jobs_transition before update of status on processing_jobs for each row
    when (old.status <> new.status and old.status || '>' || new.status not in (
      'pending>processing', 'retrying>processing', 'processing>completed', 'processing>retrying',
      'processing>failed', 'processing>pending', 'pending>failed', 'retrying>failed', 'failed>pending'))
    execute function refuse('illegal job transition')
    """,
    """
    create trigger jobs_birth before insert on processing_jobs for each row
    when (new.status <> 'pending')
    execute function refuse('a job begins as pending')
    """,
    """
    create trigger jobs_fence before update of status, claim_seq on processing_jobs for each row
    when (new.claim_seq <> old.claim_seq
          + (new.status = 'processing' and old.status <> 'processing')::int)
    execute function refuse('claim_seq grows by one with every claim and never otherwise')
    """,
    _AUDIT.format(
        name="audit_submit",
        event_type="'upload_initiated'",
        metadata="'new', new.status, 'attempt', new.attempt_count, 'claim_seq', new.claim_seq",
    ),
    """
    create trigger jobs_audit_submit after insert on processing_jobs for each row
    execute function audit_submit()
    """,
    _AUDIT.format(
        name="audit_status",
        event_type="""case when new.status = 'processing' then 'processing_started'
               when new.status <> 'pending' then new.status
               when old.status = 'failed' then 'replayed'
               else 'released' end""",
        metadata="""'old', old.status, 'new', new.status, 'attempt', new.attempt_count,
          'claim_seq', new.claim_seq, 'reason', new.reason, 'error_code', new.error_code""",
    ),
    """
    create trigger jobs_audit_status after update of status on processing_jobs for each row
    when (old.status <> new.status) execute function audit_status()
    """,
    _AUDIT.format(
        name="audit_cancel",
        event_type="'cancel_requested'",
        metadata="'attempt', new.attempt_count, 'claim_seq', new.claim_seq",
    ),
    """
    create trigger jobs_audit_cancel after update of cancel_requested_at on processing_jobs for each row
    when (old.cancel_requested_at is null and new.cancel_requested_at is not null)
    execute function audit_cancel()
    """,
    _AUDIT.format(name="audit_delete", event_type="'deleted'", metadata=""),
    """
    create trigger images_audit_delete after update of deleted_at on images for each row
    when (old.deleted_at is null and new.deleted_at is not null)
    execute function audit_delete()
    """,
    # A row is written about four times, within seconds, and what it leaves is in the way of the next claim.
    """
    alter table processing_jobs set (fillfactor = 80,
      autovacuum_vacuum_scale_factor = 0.005, autovacuum_vacuum_threshold = 500,
      autovacuum_analyze_scale_factor = 0.01, autovacuum_analyze_threshold = 500,
      autovacuum_vacuum_cost_delay = 0)
    """,
    "alter table images set (fillfactor = 80)",
    "alter table workers set (fillfactor = 50)",
)
