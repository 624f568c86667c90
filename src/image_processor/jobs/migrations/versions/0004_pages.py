"""Pages of jobs with one status, and of failed ones: also of many in one millisecond, as they expire."""

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"

FAILED = text("status = 'failed'")
INDEXES = {
    "jobs_failed": ["completed_at", "job_id"],
    "jobs_failed_by_user": ["user_id", "completed_at", "job_id"],
}


def upgrade() -> None:
    """Make the indexes of failed jobs anew, with the id behind the time; and one for every status."""
    for name, columns in INDEXES.items():
        op.drop_index(name, "processing_jobs")
        op.create_index(name, "processing_jobs", columns, sqlite_where=FAILED, postgresql_where=FAILED)
    op.create_index("jobs_by_status", "processing_jobs", ["user_id", "status", "created_at", "job_id"])
