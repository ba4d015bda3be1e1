"""Indexes for what expires on each server, and for the unfinished jobs of each backend."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index(
        "ix_credentials_expiry", "credentials", ["state", "backend", "server", "expires_at"]
    )
    # It serves what `ix_jobs_ended` did, too.
    op.create_index("ix_jobs_unfinished", "jobs", ["ended_at", "backend", "not_before"])
    op.drop_index("ix_jobs_ended", "jobs")
