"""Direct uploads, and the rows of S3ImageService."""

import sqlalchemy
from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Double, Index, Integer

revision = "0003"
down_revision = "0002"

Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "direct_uploads",
        Column("upload_id", Text, primary_key=True),
        Column("user_id", Text, nullable=False),
        Column("request", Text, nullable=False),
        Column("content_type", Text, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("sha256", Text),
        Column("status", Text, nullable=False, server_default="open"),
        Column("job_id", Text),
        Column("image_id", Text),
        Column("refusal", Text),
        Column("created_at", Text, nullable=False),
        Column("expires_at", Double, nullable=False),
        Column("purge_at", Double, nullable=False),
        Column("purges", Integer, nullable=False, server_default="0"),
        CheckConstraint("status in ('open', 'completed', 'refused')", "uploads_status"),
        CheckConstraint("(status = 'completed') = (job_id is not null)", "uploads_job"),
        CheckConstraint("(status = 'refused') = (refusal is not null)", "uploads_refusal"),
        Index("uploads_by_user", "user_id", "status"),
        Index("uploads_purge", "purge_at"),
    )
    op.create_table(
        "s3_images",
        Column("image_id", Text, primary_key=True),
        Column("session_id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("s3_bucket", Text, nullable=False),
        Column("s3_key_original", Text, nullable=False),
        Column("s3_key_thumbnail", Text),
        Column("filename", Text, nullable=False),
        Column("content_type", Text, nullable=False),
        Column("file_size_bytes", BigInteger, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("details", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("claim", Text),
        Column("lease_until", Double, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("updated_at", Text, nullable=False),
        CheckConstraint("kind in ('original', 'visualization')", "s3_images_kind"),
        CheckConstraint("status in ('uploading', 'ready', 'deleting')", "s3_images_status"),
        Index("s3_images_by_session", "session_id", "created_at"),
        Index("s3_images_unsettled", "status", "lease_until"),
        Index("s3_images_by_key", "s3_bucket", "s3_key_original", unique=True),
        Index("s3_images_by_thumbnail", "s3_bucket", "s3_key_thumbnail", unique=True),
    )
