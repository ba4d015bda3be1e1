"""Indexes for what expires on each server."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index(
        "ix_credentials_expiry", "credentials", ["state", "backend", "server", "expires_at"]
    )
