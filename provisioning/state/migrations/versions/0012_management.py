"""Management tokens, and indexes for the operators' view of the audit."""

import sqlalchemy as sa
from alembic import op

from provisioning.state.migrations.tables import TABLE_OPTIONS

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "manage_tokens",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        **TABLE_OPTIONS,
    )
    op.create_index("ix_events_token", "events", ["token_id", "id"])
    op.create_index("ix_events_run", "events", ["run_id", "id"])
    op.create_index("ix_events_action", "events", ["action", "id"])
