"""Whether the owner of a credential was told of its removal."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("told_at", sa.BigInteger(), nullable=True))
