"""When access to a credential ended whose objects are still being removed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("access_ended_at", sa.BigInteger(), nullable=True))
