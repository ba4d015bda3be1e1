"""Passwords that are being set, and claims on the logins that credentials share."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("pending_secret", sa.Text(), nullable=True))
    for column in (
        sa.Column("pending_secret", sa.Text(), nullable=True),
        # The version before knows none of these.
        sa.Column("claim_token", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("claim_owner", sa.String(128), nullable=True),
        sa.Column("claim_until", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("logins", column)
