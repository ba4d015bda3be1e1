"""The ends of credentials: protection by operators."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("credentials") as credentials:
        credentials.add_column(sa.Column("protected_until", sa.BigInteger(), nullable=True))
