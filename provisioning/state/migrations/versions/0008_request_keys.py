"""Idempotency keys."""

import sqlalchemy as sa
from alembic import op

from provisioning.state.migrations.tables import TABLE_OPTIONS

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "request_keys",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        **TABLE_OPTIONS,
    )
    op.create_index("ix_request_keys_created", "request_keys", ["created_at"])
