"""What only Redshift and PostgreSQL have; the server here is a PostgreSQL."""

import time
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from devstack.postgres import Postgres
from provisioning.backends.base import EngineUnavailable
from provisioning.backends.redshift import RedshiftBackend
from provisioning.backends.redshift.dialect import POSTGRESQL, REDSHIFT, detect
from provisioning.config import Limits
from provisioning.servers import PostgresServer
from provisioning.vault import Secret, generate_password
from tests.backends.case import NO_LIMITS, lease
from tests.backends.conftest import PostgresCase


@pytest.fixture
def workspace(
    redshift_backend: RedshiftBackend, postgres: Postgres, warehouse: PostgresServer
) -> PostgresCase:
    return PostgresCase(redshift_backend, "sandbox", postgres, warehouse)


def limited(
    workspace: PostgresCase, limits: Limits, **changes: Any
) -> tuple[PostgresCase, RedshiftBackend]:
    server = replace(workspace.server, **changes)
    backend = RedshiftBackend(
        "postgresql", (server,), {**NO_LIMITS, "writer": limits}, timeout=2, connections=2
    )
    return PostgresCase(backend, "writer", workspace.postgres, server), backend


def run(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def test_details_name_the_schema_and_the_workspace(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    number = str(spec.credentials_id)
    assert workspace.backend.describe(spec, password) == {
        "hostname": workspace.postgres.host,
        "port": workspace.postgres.port,
        "db": "warehouse",
        "schema": f"{workspace.prefix}workspace_{number}",
        "workspaceId": number,
        "user": f"{workspace.prefix}sapi_workspace_{number}",
        "password": password.reveal(),
    }


def test_a_new_session_is_in_the_workspaces_schema(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    with workspace.session(spec, password) as connection:
        assert run(connection, "SELECT current_schema()") == [(spec.object_name,)]


def test_drop_frees_a_login_that_others_gave_rights_or_that_made_things_elsewhere(
    workspace: PostgresCase,
) -> None:
    spec, password = workspace.made()
    shared = f"{workspace.prefix}shared"
    user = f'"{spec.user_name}"'
    with psycopg2.connect(
        host=workspace.postgres.host,
        port=workspace.postgres.port,
        dbname="warehouse",
        user="provisioner",
        password=workspace.server.password.reveal(),
    ) as owner:
        for statement in (
            f"CREATE SCHEMA {shared}",
            f"CREATE TABLE {shared}.theirs (a INT)",
            f"GRANT ALL ON SCHEMA {shared} TO {user}",
            f"GRANT SELECT ON {shared}.theirs TO {user}",
            f"GRANT TEMPORARY ON DATABASE warehouse TO {user}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {shared} GRANT SELECT ON TABLES TO {user}",
        ):
            run(owner, statement)
    owner.close()
    with workspace.session(spec, password) as connection:
        run(connection, f"CREATE TABLE {shared}.mine (a INT)")
        run(connection, f"CREATE VIEW {shared}.seen AS SELECT * FROM {shared}.theirs")
    workspace.backend.drop(spec, lease())
    assert workspace.remains(spec) == []
    left = workspace.admin("SELECT tablename FROM pg_tables WHERE schemaname = %s", shared)
    assert left == [("theirs",)]


def test_the_database_itself_refuses_the_password_a_while_after_the_end(
    workspace: PostgresCase,
) -> None:
    now = int(time.time()) * 1000
    spec = replace(workspace.spec(), expires_at=now)
    password = generate_password()
    workspace.backend.create(spec, password, lease())
    query = "SELECT extract(epoch FROM valuntil) FROM pg_user WHERE usename = %s"
    ((until,),) = workspace.admin(query, spec.user_name)
    assert until == now // 1000 + 3600
    workspace.backend.prolong(replace(spec, expires_at=now + 60_000))
    ((until,),) = workspace.admin(query, spec.user_name)
    assert until == now // 1000 + 3660
    workspace.backend.prolong(replace(spec, expires_at=now - 7_200_000))
    with pytest.raises(psycopg2.Error):
        workspace.connect(spec, password)


def test_limits_of_a_type_are_enforced_by_the_server(workspace: PostgresCase) -> None:
    case, _ = limited(workspace, Limits(connections=1, statement_seconds=1))
    spec, password = case.made()
    with case.session(spec, password) as connection:
        with pytest.raises(psycopg2.Error, match="too many connections"):
            case.connect(spec, password)
        with pytest.raises(psycopg2.errors.QueryCanceled):
            run(connection, "SELECT pg_sleep(10)")


def test_a_hung_server_fails_in_time_and_is_back_after(
    workspace: PostgresCase, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Postgres(tmp_path_factory.mktemp("hung-postgres"))
    server.start()
    try:
        case, backend = limited(
            workspace,
            Limits(0, 0),
            port=server.port,
            user="postgres",
            password=Secret(server.password),
            database="postgres",
        )
        case.postgres = server
        spec, _ = case.made()
        server.pause()
        start = time.monotonic()
        with pytest.raises(EngineUnavailable):
            backend.exists(spec)
        assert time.monotonic() - start < 3
        server.resume()
        assert backend.exists(spec)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("right", "said"),
    [("NOCREATEROLE", "cannot create users: ALTER USER"), ("CREATEROLE", "cannot create schemas")],
)
def test_check_names_the_right_that_is_missing(
    workspace: PostgresCase, right: str, said: str
) -> None:
    password = generate_password()
    name = f"{workspace.prefix}admin"
    workspace.admin(f'CREATE USER "{name}" {right} PASSWORD %s', password.reveal())
    if right == "NOCREATEROLE":
        workspace.admin(f'GRANT CREATE ON DATABASE warehouse TO "{name}"')
    _, backend = limited(workspace, Limits(0, 0), user=name, password=password)
    (health,) = backend.check()
    assert not health.alive
    assert said in health.message
    assert f'"{name}"' in health.message


# Dialects: statements only Redshift takes are pinned as text, since no Redshift runs here. ----


def test_the_server_tells_which_of_the_two_it_is() -> None:
    redshift = (
        "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 "
        "(Red Hat 3.4.2-6.fc3), Redshift 1.0.53642"
    )
    assert detect(redshift) is REDSHIFT
    assert detect("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64") is POSTGRESQL


def test_redshifts_own_statements() -> None:
    assert REDSHIFT.sessions == ("SELECT process, TRIM(user_name), TRIM(db_name) FROM stv_sessions")
    assert not REDSHIFT.has_advisory_locks
    assert REDSHIFT.has_schema_quota
    assert REDSHIFT.settings == ()
