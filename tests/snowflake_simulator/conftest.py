"""A simulator per test, with a warehouse, a database, a schema and a user in it."""

from collections.abc import Iterator

import pytest

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import (
    ADMIN_PASSWORD,
    Connection,
    connect,
    password_of,
    prepare,
)


@pytest.fixture
def simulator() -> Iterator[SnowflakeSimulator]:
    with SnowflakeSimulator("ADMIN", ADMIN_PASSWORD) as running:
        yield running


@pytest.fixture
def admin(simulator: SnowflakeSimulator) -> Iterator[Connection]:
    """The administrator's connection, with the objects of `prepare` made."""
    connection = connect(simulator, "ADMIN", ADMIN_PASSWORD)
    prepare(connection)
    yield connection
    connection.close()


@pytest.fixture
def user(simulator: SnowflakeSimulator, admin: Connection) -> Iterator[Connection]:
    """A connection of U1, whose role may use the schema D.S1."""
    connection = connect(simulator, "U1", password_of("U1"))
    yield connection
    connection.close()
