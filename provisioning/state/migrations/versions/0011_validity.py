"""The ends of credentials: protection by operators, warnings, and a grace of sandboxes."""

import sqlalchemy as sa
from alembic import op

from provisioning.state.migrations.tables import TABLE_OPTIONS

revision = "0011"
down_revision = "0010"

COLUMNS = ("protected_until", "attend_at", "warned_at", "noted_end", "grace_until")


def upgrade() -> None:
    with op.batch_alter_table("credentials") as credentials:
        for name in COLUMNS:
            credentials.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
        credentials.create_index("ix_credentials_attend", ["state", "attend_at"])
    # What lives is looked at once, which decides when it is looked at next.
    op.execute(
        "UPDATE credentials SET attend_at = touched_at "
        "WHERE expires_at IS NOT NULL AND state <> 'dropped'"
    )
    op.create_table(
        "notices",
        # SQLite counts by itself in columns of this type only.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("credentials_id", sa.BigInteger(), nullable=False),
        sa.Column("backend", sa.String(length=32), nullable=False),
        sa.Column("lead", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("claim_token", sa.BigInteger(), nullable=False),
        sa.Column("claim_owner", sa.String(length=128), nullable=True),
        sa.Column("claim_until", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **TABLE_OPTIONS,
    )
    op.create_index("ix_notices_not_before", "notices", ["not_before"])
