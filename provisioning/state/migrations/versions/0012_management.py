"""Management tokens, and indexes for the operators' view of the audit."""

from typing import Any

import sqlalchemy as sa
from alembic import op

TABLE_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

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
