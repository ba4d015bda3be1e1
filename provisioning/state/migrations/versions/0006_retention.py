"""Turns and places of jobs that wait; finished jobs, dropped credentials and events by age."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("parallel_limit", sa.BigInteger(), nullable=True))
        jobs.add_column(sa.Column("place", sa.BigInteger(), nullable=True))
        jobs.create_index("ix_jobs_turns", ["status", "project_id", "id"])
        jobs.create_index("ix_jobs_served", ["project_id", "started_at"])
        jobs.create_index("ux_jobs_place", ["project_id", "place"], unique=True)
        jobs.create_index("ix_jobs_ended", ["ended_at"])
    op.create_index("ix_credentials_dropped", "credentials", ["dropped_at"])
    op.create_index("ix_events_time", "events", ["time"])
