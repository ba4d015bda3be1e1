"""Quotas of projects, and the index that their credentials are counted by."""

import sqlalchemy as sa
from alembic import op

from provisioning.state.migrations.tables import TABLE_OPTIONS

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("project_id"),
        **TABLE_OPTIONS,
    )
    op.create_index("ix_credentials_project", "credentials", ["project_id", "state"])
