"""Jobs whose original is fetched and whose output goes elsewhere; idempotency, progress, webhooks, hints."""

import sqlalchemy
from alembic import op
from sqlalchemy import CheckConstraint, Column, Double, Index, Integer, text

revision = "0002"
down_revision = "0001"

Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")

NOW_ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
NOW = "((julianday('now') - 2440587.5) * 86400.0)"


def upgrade() -> None:
    """Add columns, tables and indexes; an image whose original was never fetched has empty texts for it."""
    for name in ("source_uri", "output_uri", "callback_url"):
        op.add_column("processing_jobs", Column(name, Text))
    op.add_column("workers", Column("stalled_since", Double))
    _create_idempotency_keys()
    _create_progress()
    _create_deliveries()
    _create_epochs()
    _index_jobs()
    for sql in OWN_TO_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else TRIGGERS:
        op.execute(sql.replace("<now_iso>", NOW_ISO).replace("<now>", NOW))


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        Column("user_id", Text, primary_key=True),
        Column("idempotency_key", Text, primary_key=True),
        Column("fingerprint", Text, nullable=False),
        Column("job_id", Text, nullable=False),
        Column("image_id", Text, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("expires_at", Double, nullable=False),
        Index("idempotency_expiry", "expires_at"),
    )


def _create_progress() -> None:
    op.create_table(
        "job_progress",
        Column("job_id", Text, primary_key=True),
        Column("claim_seq", Integer, nullable=False),
        Column("percent", Integer, CheckConstraint("percent between 0 and 100"), nullable=False),
        Column("step", Text, nullable=False),
        Column("updated_at", Double, nullable=False),
    )


def _create_deliveries() -> None:
    live = text("status in ('pending', 'delivering', 'retrying')")
    op.create_table(
        "webhook_deliveries",
        Column("delivery_id", Text, primary_key=True),
        Column("job_id", Text, nullable=False),
        Column("user_id", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("event_type", Text, nullable=False),
        Column("event", Text, nullable=False),
        Column("status", Text, nullable=False, server_default="pending"),
        Column("attempt_count", Integer, nullable=False, server_default="0"),
        Column("claim_seq", Integer, nullable=False, server_default="0"),
        Column("run_at", Double, nullable=False),
        Column("lease_until", Double),
        Column("response_status", Integer),
        Column("last_error", Text),
        Column("created_at", Text, nullable=False),
        Column("completed_at", Text),
        CheckConstraint(
            "status in ('pending', 'delivering', 'retrying', 'delivered', 'failed')", "deliveries_status"
        ),
        CheckConstraint("(status = 'delivering') = (lease_until is not null)", "deliveries_lease"),
        CheckConstraint(
            "(status in ('delivered', 'failed')) = (completed_at is not null)", "deliveries_final"
        ),
        Index("deliveries_due", "run_at", sqlite_where=live, postgresql_where=live),
        Index("deliveries_by_job", "job_id", "created_at"),
    )


def _create_epochs() -> None:
    op.create_table(
        "transport_epochs",
        Column("transport", Text, primary_key=True),
        Column("epoch", Text, nullable=False),
        Column("began_at", Double, nullable=False),
    )


def _index_jobs() -> None:
    partial = {
        "jobs_undispatched": (
            ["priority", "run_at", "job_id"],
            "status in ('pending', 'retrying') and dispatched_at is null",
        ),
        "jobs_dispatched": (
            ["dispatched_at"],
            "status in ('pending', 'retrying') and dispatched_at is not null",
        ),
        "jobs_reusable": (["user_id", "dedupe_key"], "status = 'completed' and dedupe_key is not null"),
    }
    for name, (columns, condition) in partial.items():
        where = text(condition)
        op.create_index(name, "processing_jobs", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("jobs_by_user", "processing_jobs", ["user_id", "created_at", "job_id"])


TRIGGERS = (
    """
    create trigger jobs_callback after update of status on processing_jobs
    when old.status <> new.status and new.status in ('completed', 'failed') and new.callback_url is not null
    begin
      insert into webhook_deliveries
        (delivery_id, job_id, user_id, url, event_type, event, run_at, created_at)
      values (lower(hex(randomblob(16))), new.job_id, new.user_id, new.callback_url, 'job.' || new.status,
              json_object('job_id', new.job_id, 'image_id', new.image_id, 'status', new.status,
                          'reason', new.reason, 'error', new.last_error, 'error_code', new.error_code,
                          'attempts', new.attempt_count, 'created_at', new.created_at,
                          'completed_at', new.completed_at),
              <now>, <now_iso>);
    end
    """,
)
"""A job cannot come to rest without its callback being due."""

OWN_TO_POSTGRESQL = (
    """
    create function due_callback() returns trigger language plpgsql as $$
    begin
      insert into webhook_deliveries
        (delivery_id, job_id, user_id, url, event_type, event, run_at, created_at)
      values (replace(gen_random_uuid()::text, '-', ''), new.job_id, new.user_id, new.callback_url,
              'job.' || new.status,
              json_build_object('job_id', new.job_id, 'image_id', new.image_id, 'status', new.status,
                                'reason', new.reason, 'error', new.last_error, 'error_code', new.error_code,
                                'attempts', new.attempt_count, 'created_at', new.created_at,
                                'completed_at', new.completed_at)::text,
              extract(epoch from statement_timestamp())::double precision,
              to_char(statement_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
      return null;
    end $$
    """,
    """
    create trigger jobs_callback after update of status on processing_jobs for each row
    when (old.status <> new.status and new.status in ('completed', 'failed') and new.callback_url is not null)
    execute function due_callback()
    """,
    "alter table job_progress set (fillfactor = 50)",
)
