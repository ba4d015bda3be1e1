"""The schema's history and the models say the same."""

from itertools import count
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from provisioning import migrations
from provisioning.bootstrap import prepare_state
from provisioning.database import Database
from provisioning.models import Base
from provisioning.vault import Secret
from tests.support.servers import mysql_state_url, postgres_state_url

_numbers = count(1)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty state database of each kind."""
    name = f"migrations_{next(_numbers)}"
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/state.db"
    elif request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = postgres_state_url(server, name)
    else:
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        url = mysql_state_url(mariadb, name)
    return Database(Secret(url), 2)


def test_the_newest_version_is_the_one_the_code_was_written_for() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_current_head() == migrations.NEWEST


def test_the_migrated_schema_is_the_models(database: Database) -> None:
    assert not database.is_current()
    prepare_state(database)
    assert database.is_current()
    with database.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_preparing_twice_changes_nothing(database: Database) -> None:
    prepare_state(database)
    with database.connect() as connection:
        before = connection.exec_driver_sql("SELECT name, value FROM settings").fetchall()
    prepare_state(database)
    with database.connect() as connection:
        after = connection.exec_driver_sql("SELECT name, value FROM settings").fetchall()
    assert before == after
    assert len(before) == 1
