"""The servers and backends that the conformance suite runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pymysql
import pytest

from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from provisioning.backends.base import Spec
from provisioning.backends.mysql import MySQLBackend
from provisioning.backends.mysql.locks import Locks
from provisioning.backends.redshift import RedshiftBackend
from provisioning.backends.snowflake import SnowflakeBackend
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.configuration.servers import MySQLServer, PostgresServer
from tests.backends.case import NO_LIMITS, Case, lock_secret
from tests.backends.docker_case import DockerCase
from tests.backends.snowflake_case import (
    Account,
    SnowflakeCase,
    close_configured,
    snowflake_account,
)
from tests.support.deadlines import DEADLINE, ENDLESS
from tests.support.newest_postgres import NewestPostgres
from tests.support.redshift_stand_in import RedshiftStandIn


class MySQLCase(Case):
    backend: MySQLBackend
    error = pymysql.Error
    sleep = f"SELECT SLEEP({ENDLESS})"

    def __init__(self, backend: MySQLBackend, type_: str, mariadb: MariaDB) -> None:
        super().__init__(backend, type_)
        self.mariadb = mariadb

    def connect(
        self, spec: Spec, password: Secret, *, autocommit: bool = True, **options: Any
    ) -> "pymysql.Connection[Any]":
        values: dict[str, Any] = {
            "host": self.mariadb.host,
            "port": self.mariadb.port,
            "user": spec.user_name,
            "password": password.reveal(),
            "database": spec.object_name,
            "autocommit": autocommit,
            "read_timeout": ENDLESS,
            "ssl_disabled": True,
        }
        return pymysql.connect(**{**values, **options})

    def admin(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def make_foreign_object(self, spec: Spec) -> None:
        self.admin(f"CREATE DATABASE `{spec.object_name}`")
        self.admin(f"CREATE TABLE `{spec.object_name}`.theirs (a INT)")

    def foreign_object_survives(self, spec: Spec) -> bool:
        found = self.admin(f"SELECT COUNT(*) FROM `{spec.object_name}`.theirs") == [(0,)]
        self.remove_object(spec)
        return found

    def remove_object(self, spec: Spec) -> None:
        self.admin(f"DROP DATABASE `{spec.object_name}`")

    def remove_login(self, spec: Spec) -> None:
        self.admin(f"DROP USER `{spec.user_name}`@`%`")

    def lock_login(self, spec: Spec) -> None:
        self.admin(f"ALTER USER `{spec.user_name}`@`%` ACCOUNT LOCK")

    def runs_long(self, spec: Spec) -> bool:
        return bool(
            self.admin(
                "SELECT 1 FROM information_schema.processlist WHERE user = %s AND info LIKE %s",
                spec.user_name,
                "SELECT SLEEP%",
            )
        )

    def hold_lock(self, spec: Spec) -> Any:
        connection = self.mariadb.connect()
        with connection.cursor() as cursor:
            name = Locks(lock_secret).name(spec.object_name)
            cursor.execute("SELECT GET_LOCK(%s, 0)", (name,))
            assert cursor.fetchall() == ((1,),)
        return connection

    def remains(self, spec: Spec) -> list[str]:
        found = [
            f"database {row[0]}"
            for row in self.admin(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s",
                spec.object_name,
            )
        ]
        found += [
            f"grant on {row[0]}"
            for row in self.admin("SELECT Db FROM mysql.db WHERE User = %s", spec.user_name)
            if row[0].replace("\\", "") == spec.object_name
        ]
        return found + ([] if self.backend.shares_login(self.type) else self.login_remains(spec))

    def login_remains(self, spec: Spec) -> list[str]:
        """Return what the server still has of the login."""
        users = self.admin("SELECT User FROM mysql.global_priv WHERE User = %s", spec.user_name)
        sessions = self.admin(
            "SELECT id FROM information_schema.processlist WHERE user = %s", spec.user_name
        )
        return [f"user {row[0]}" for row in users] + [f"session {row[0]}" for row in sessions]

    def forbidden(self, other: Spec) -> list[str]:
        return [
            f"CREATE TABLE `{other.object_name}`.t (a INT)",
            "CREATE DATABASE mine_alone",
            "CREATE USER mallory IDENTIFIED BY 'x'",
            "GRANT SELECT ON *.* TO CURRENT_USER",
            "SET GLOBAL max_connections = 1",
            "SELECT * FROM mysql.global_priv",
        ]


class PostgresCase(Case):
    """PostgreSQL, or Redshift's stand-in: then ``server`` is the proxy before ``postgres``."""

    error = psycopg2.Error
    sleep = f"SELECT pg_sleep({ENDLESS})"

    def __init__(
        self, backend: RedshiftBackend, type_: str, postgres: Postgres, server: PostgresServer
    ) -> None:
        super().__init__(backend, type_)
        self.postgres = postgres
        self.server = server

    def connect(self, spec: Spec, password: Secret, *, autocommit: bool = True) -> Any:
        connection = psycopg2.connect(
            host=self.server.host,
            port=self.server.port,
            dbname=self.server.database,
            user=spec.user_name,
            password=password.reveal(),
        )
        connection.autocommit = autocommit
        return connection

    def admin(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        url = self.postgres.database_url(self.server.database).replace("+psycopg2", "")
        connection = psycopg2.connect(url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def make_foreign_object(self, spec: Spec) -> None:
        self.admin(f'CREATE SCHEMA "{spec.object_name}"')
        self.admin(f'CREATE TABLE "{spec.object_name}".theirs (a INT)')

    def foreign_object_survives(self, spec: Spec) -> bool:
        found = self.admin(f'SELECT COUNT(*) FROM "{spec.object_name}".theirs') == [(0,)]
        self.remove_object(spec)
        return found

    def remove_object(self, spec: Spec) -> None:
        self.admin(f'DROP SCHEMA "{spec.object_name}" CASCADE')

    def remove_login(self, spec: Spec) -> None:
        self.admin(f'ALTER SCHEMA "{spec.object_name}" OWNER TO {self.server.user}')
        self.admin(f'DROP USER "{spec.user_name}"')

    def lock_login(self, spec: Spec) -> None:
        self.admin(f'ALTER USER "{spec.user_name}" CONNECTION LIMIT 0')

    def runs_long(self, spec: Spec) -> bool:
        return bool(
            self.admin(
                "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND state = 'active'",
                spec.user_name,
            )
        )

    def hold_lock(self, spec: Spec) -> Any:
        # As the service's own admin: only its own sessions may it end.
        connection = psycopg2.connect(
            host=self.postgres.host,
            port=self.postgres.port,
            dbname=self.server.database,
            user=self.server.user,
            password=self.server.password.reveal(),
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", (spec.object_name,))
        return connection

    def remains(self, spec: Spec) -> list[str]:
        queries = {
            "user": ("SELECT usename FROM pg_user WHERE usename = %s", spec.user_name),
            "schema": ("SELECT nspname FROM pg_namespace WHERE nspname = %s", spec.object_name),
            "session": ("SELECT pid FROM pg_stat_activity WHERE usename = %s", spec.user_name),
        }
        return [
            f"{what} {row[0]}"
            for what, (query, name) in queries.items()
            for row in self.admin(query, name)
        ]

    login_remains = remains

    def forbidden(self, other: Spec) -> list[str]:
        return [
            f'CREATE TABLE "{other.object_name}".t (a INT)',
            f'SELECT * FROM "{other.object_name}".theirs',
            "CREATE SCHEMA mine_alone",
            "CREATE DATABASE mine_alone",
            "CREATE USER mallory PASSWORD 'x'",
            "SELECT * FROM pg_shadow",
            "SELECT * FROM svv_table_info",
        ]


def mysql_server(mariadb: MariaDB, **changes: Any) -> MySQLServer:
    """Return the configuration of a private MariaDB."""
    values: dict[str, Any] = {
        "name": "one",
        "host": mariadb.host,
        "port": mariadb.port,
        "user": "root",
        "password": Secret(mariadb.root_password),
        "public_host": mariadb.host,
        "public_port": mariadb.port,
    }
    return MySQLServer(**{**values, **changes})


def make_mysql_backend(
    server: MySQLServer, limits: dict[str, Limits] = NO_LIMITS, *, connections: int = 2
) -> MySQLBackend:
    """Return a backend of one server."""
    return MySQLBackend((server,), limits, DEADLINE, connections, lock_secret=lock_secret)


@pytest.fixture(scope="session")
def mysql_backend(mariadb: MariaDB) -> Iterator[MySQLBackend]:
    backend = make_mysql_backend(mysql_server(mariadb), connections=4)
    yield backend
    backend.close()


def make_warehouse(postgres: Postgres) -> PostgresServer:
    """Make a database with an admin who is no superuser, as Redshift's is not.

    ``svv_table_info`` stands in for Redshift's cluster metadata.
    """
    password = generate_password()
    admin = psycopg2.connect(postgres.url.replace("+psycopg2", ""))
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("CREATE USER provisioner CREATEROLE PASSWORD %s", (password.reveal(),))
        cursor.execute("CREATE DATABASE warehouse OWNER provisioner")
    admin.close()
    inside = psycopg2.connect(postgres.database_url("warehouse").replace("+psycopg2", ""))
    inside.autocommit = True
    with inside.cursor() as cursor:
        # Redshift's own relations are found whatever the search path.
        cursor.execute("SET allow_system_table_mods = on")
        cursor.execute("CREATE VIEW pg_catalog.svv_table_info AS SELECT relname FROM pg_class")
    inside.close()
    return PostgresServer(
        name="one",
        host=postgres.host,
        port=postgres.port,
        user="provisioner",
        password=password,
        public_host=postgres.host,
        public_port=postgres.port,
        database="warehouse",
    )


@contextmanager
def running_backend(name: str, server: PostgresServer) -> Iterator[RedshiftBackend]:
    """Run a backend of one PostgreSQL, or of Redshift's stand-in, for a block."""
    backend = RedshiftBackend(name, (server,), NO_LIMITS, timeout=DEADLINE, connections=4)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def warehouse(postgres: Postgres) -> PostgresServer:
    """A database on Debian's PostgreSQL."""
    return make_warehouse(postgres)


@pytest.fixture(scope="session")
def postgres_backend(warehouse: PostgresServer) -> Iterator[RedshiftBackend]:
    with running_backend("postgresql", warehouse) as backend:
        yield backend


@pytest.fixture(scope="session")
def newest_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewestPostgres]:
    """PostgreSQL 18: from 16 on, the right to make roles is not the right over all of them."""
    server = NewestPostgres(tmp_path_factory.mktemp("newest-postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def newest_warehouse(newest_postgres: NewestPostgres) -> PostgresServer:
    """A database on the newest PostgreSQL."""
    return make_warehouse(newest_postgres)


@pytest.fixture(scope="session")
def newest_backend(newest_warehouse: PostgresServer) -> Iterator[RedshiftBackend]:
    with running_backend("postgresql", newest_warehouse) as backend:
        yield backend


@pytest.fixture(scope="session")
def cluster(redshift_stand_in: RedshiftStandIn) -> PostgresServer:
    """The configuration of Redshift's stand-in."""
    return PostgresServer(
        name="one",
        host=redshift_stand_in.host,
        port=redshift_stand_in.port,
        user=redshift_stand_in.user,
        password=redshift_stand_in.password,
        public_host=redshift_stand_in.host,
        public_port=redshift_stand_in.port,
        database=redshift_stand_in.database,
        schema_quota_gb=10,
    )


@pytest.fixture(scope="session")
def redshift_backend(cluster: PostgresServer) -> Iterator[RedshiftBackend]:
    with running_backend("redshift-workspace", cluster) as backend:
        yield backend


@pytest.fixture(scope="session")
def snowflake_one() -> Iterator[Account]:
    """The simulated account that most tests share, with the configuration for it."""
    with snowflake_account() as account:
        yield account


@pytest.fixture
def own_account() -> Iterator[Account]:
    """A Snowflake account that one test may hang, set forward, or take rights from."""
    with snowflake_account() as account:
        yield account
        close_configured()


@pytest.fixture(scope="session")
def snowflake_backend(snowflake_one: Account) -> Iterator[SnowflakeBackend]:
    backend = SnowflakeBackend((snowflake_one[1],), NO_LIMITS, timeout=DEADLINE, connections=4)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def docker_case(docker_engine: DockerEngine) -> Iterator[DockerCase]:
    """A backend on the engine that most tests share."""
    case = DockerCase(docker_engine)
    yield case
    case.close()


@pytest.fixture
def own_docker_engine(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """The shared engine, for a test that ends it; it runs again afterwards."""
    yield docker_engine
    docker_engine.start()


#: The kinds of credential on servers with locks that outlast a statement, and on the others.
LOCKING = (
    "mysql transformations",
    "mysql sandbox",
    "postgresql writer",
    "newest-postgresql writer",
)
LOCKLESS = ("redshift-workspace writer", "snowflake writer", "snowflake sandbox")


@pytest.fixture(params=LOCKING + LOCKLESS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each backend and kind of credential the conformance suite runs on."""
    return make_case(request)


@pytest.fixture(params=LOCKING)
def locking_case(request: pytest.FixtureRequest) -> Case:
    """Those whose server fences off a stale holder by itself."""
    return make_case(request)


def make_case(request: pytest.FixtureRequest) -> Case:
    backend, type_ = request.param.split()
    if backend == "snowflake":
        simulator, _ = request.getfixturevalue("snowflake_one")
        return SnowflakeCase(request.getfixturevalue("snowflake_backend"), type_, simulator)
    if backend == "mysql":
        return MySQLCase(
            request.getfixturevalue("mysql_backend"), type_, request.getfixturevalue("mariadb")
        )
    names = {
        "postgresql": ("postgres_backend", "postgres", "warehouse"),
        "newest-postgresql": ("newest_backend", "newest_postgres", "newest_warehouse"),
        "redshift-workspace": ("redshift_backend", "postgres", "cluster"),
    }
    found, postgres, server = map(request.getfixturevalue, names[backend])
    return PostgresCase(found, type_, postgres, server)
