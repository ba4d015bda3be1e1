"""Fixtures of the private servers that the whole suite shares."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pymysql
import pytest

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from provisioning.configuration.secrets import Secret
from provisioning.state.database import Database
from tests.support.deadlines import DEADLINE
from tests.support.hunt import HUNT
from tests.support.redshift_stand_in import RedshiftStandIn


def _server_directory(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.mktemp(name)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """The MariaDB that credentials are made on."""
    if MariaDB.missing():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    server = MariaDB(_server_directory(tmp_path_factory, "mariadb"))
    server.start()
    HUNT.add_files(server.process.log)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The broker."""
    server = Valkey(_server_directory(tmp_path_factory, "valkey"))
    server.start()
    with _all_commands_recorded(server):
        yield server
        server.stop()


@contextmanager
def _all_commands_recorded(server: Valkey) -> Iterator[None]:
    """Let the hunt for secrets see all that goes through the broker while the block runs."""
    recorded = server.directory / "commands.txt"
    with socket.create_connection((server.host, server.port)) as monitor, recorded.open("wb") as to:
        monitor.sendall(f"AUTH {server.password}\r\nMONITOR\r\n".encode())
        writer = subprocess.Popen(["cat"], stdin=monitor.fileno(), stdout=to)
    yield
    # The server has ended, and so has its end of the connection.
    writer.wait(DEADLINE)
    HUNT.add_files(recorded)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL for the state."""
    if Postgres.missing():
        pytest.skip("postgres is not installed: apt-get install postgresql")
    server = Postgres(_server_directory(tmp_path_factory, "postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redshift_stand_in(postgres: Postgres) -> Iterator[RedshiftStandIn]:
    """What stands in for Redshift, on the same PostgreSQL."""
    stand_in = RedshiftStandIn(postgres)
    yield stand_in
    stand_in.close()


def mysql_state_url(mariadb: MariaDB, database: str) -> str:
    """Make a database for a state on the MariaDB and return its STATE_URL."""
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{database}`")
    url = urlsplit(mariadb.url)
    return f"mysql+pymysql://{url.username}:{url.password}@{url.hostname}:{url.port}/{database}"


def postgres_state_url(postgres: Postgres, database: str) -> str:
    """Make a database for a state on the PostgreSQL and return its STATE_URL."""
    import psycopg2

    connection = psycopg2.connect(postgres.url.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{database}"')
    connection.close()
    return postgres.database_url(database)


def empty_state(request: pytest.FixtureRequest, kind: str, directory: Path) -> Database:
    """Return a state database of a kind, as yet without tables."""
    return Database(Secret(empty_state_url(request, kind, directory)), 2)


def empty_state_url(request: pytest.FixtureRequest, kind: str, directory: Path) -> str:
    """Return the address of a new state database of a kind."""
    name = f"state_{next(_state_numbers)}"
    if kind == "sqlite":
        return f"sqlite:///{directory}/{name}.db"
    if kind == "postgresql":
        return postgres_state_url(request.getfixturevalue("postgres"), name)
    return mysql_state_url(request.getfixturevalue("mariadb"), name)


_state_numbers = count(1)


def connect_as(
    credentials: dict[str, object], *, timeout: int = DEADLINE
) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    """Open a connection with what an answer's ``credentials`` say."""
    return pymysql.connect(
        host=str(credentials["hostname"]),
        port=int(str(credentials["port"])),
        user=str(credentials["user"]),
        password=str(credentials["password"]),
        database=str(credentials["db"]),
        connect_timeout=timeout,
        read_timeout=timeout,
        ssl_disabled=True,
        autocommit=True,
    )
