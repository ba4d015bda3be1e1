"""The schema's history, run by Alembic.

Alembic is imported only where it works: a front or a worker needs ten megabytes less.
"""

from pathlib import Path

from sqlalchemy import Connection

#: The version this code was written for: the newest file in ``versions``.
NEWEST = "0016"


def upgrade(connection: Connection) -> None:
    """Bring the schema behind ``connection`` to the newest version."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
