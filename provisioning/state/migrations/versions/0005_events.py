"""The audit: events, which are only ever added."""

import sqlalchemy as sa
from alembic import op

from provisioning.state.migrations.tables import TABLE_OPTIONS

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "events",
        # SQLite counts by itself in columns of this type only.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("credentials_id", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **TABLE_OPTIONS,
    )
    op.create_index("ix_events_job", "events", ["job_id", "id"])
    op.create_index("ix_events_credentials", "events", ["credentials_id", "id"])
    op.create_index("ix_events_project", "events", ["project_id", "id"])
