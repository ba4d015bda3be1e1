"""Who is still to be told of the removal of a credential."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("asked", sa.BigInteger(), nullable=True))
    op.add_column("credentials", sa.Column("sent_away_at", sa.BigInteger(), nullable=True))
