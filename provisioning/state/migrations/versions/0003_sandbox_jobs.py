"""Jobs that create: their request, progress and end; ports; limits of local tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("backend", sa.String(length=32), nullable=True))
        jobs.add_column(sa.Column("request", sa.Text(), nullable=True))
        jobs.add_column(sa.Column("progress", sa.JSON(), nullable=True))
        jobs.add_column(sa.Column("terminated_by", sa.JSON(), nullable=True))
        jobs.alter_column("credentials_id", existing_type=sa.BigInteger(), nullable=True)
    _fill_jobs()
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("backend", existing_type=sa.String(length=32), nullable=False)
        jobs.alter_column("progress", existing_type=sa.JSON(), nullable=False)
    with op.batch_alter_table("credentials") as credentials:
        credentials.add_column(sa.Column("port", sa.BigInteger(), nullable=True))
        credentials.create_index("ux_credentials_port", ["server", "port"], unique=True)
    with op.batch_alter_table("local_tokens") as tokens:
        tokens.add_column(sa.Column("limits", sa.JSON(), nullable=True))
    op.execute(sa.table("local_tokens", sa.column("limits", sa.JSON())).update().values(limits={}))
    with op.batch_alter_table("local_tokens") as tokens:
        tokens.alter_column("limits", existing_type=sa.JSON(), nullable=False)
    with op.batch_alter_table("settings") as settings:
        settings.alter_column(
            "value", existing_type=sa.String(length=255), type_=sa.Text(), existing_nullable=False
        )


def _fill_jobs() -> None:
    """Take the backend out of ``token:backend:type``."""
    jobs = sa.table(
        "jobs",
        sa.column("slot", sa.String()),
        sa.column("backend", sa.String()),
        sa.column("progress", sa.JSON()),
    )
    connection = op.get_bind()
    slots = connection.execute(sa.select(jobs.c.slot).distinct()).scalars().all()
    for slot in slots:
        backend = slot.split(":")[-2]
        connection.execute(
            jobs.update().where(jobs.c.slot == slot).values(backend=backend, progress=[])
        )
