"""The schema's history and the models say the same."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from provisioning.state import migrations
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.models import Base
from tests.support.servers import empty_state


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty state database of each kind."""
    return empty_state(request, request.param, tmp_path)


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
