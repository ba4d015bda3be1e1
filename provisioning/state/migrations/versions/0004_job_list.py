"""Find the newest jobs of a project without looking at those of others."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_jobs_project", "jobs", ["project_id", "id"])
