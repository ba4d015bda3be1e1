"""Alembic's entry: the connection comes from `provisioning.state.database`."""

from alembic import context

from provisioning.state.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
