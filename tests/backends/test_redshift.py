"""What only PostgreSQL and Redshift have, the latter on a stand-in before a PostgreSQL."""

import itertools
import math
import re
import socket
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from devstack.postgres import Postgres
from provisioning.backends.base import EngineBusy, EngineUnavailable, Spec
from provisioning.backends.redshift import RedshiftBackend
from provisioning.backends.redshift import server as redshift_server
from provisioning.backends.redshift.detach import grantees
from provisioning.backends.redshift.dialect import POSTGRESQL, REDSHIFT, detect
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.state.claims import ClaimLost, Lease
from provisioning.state.models import Credentials
from tests.backends.case import NO_LIMITS, lease
from tests.backends.conftest import PostgresCase, make_case
from tests.support.deadlines import DEADLINE, ENDLESS
from tests.support.redshift_stand_in import VERSION, RedshiftStandIn


@pytest.fixture(params=["postgresql sandbox", "redshift-workspace sandbox"])
def workspace(request: pytest.FixtureRequest) -> PostgresCase:
    return _postgres_case(request)


@pytest.fixture(params=["postgresql sandbox"])
def on_postgresql(request: pytest.FixtureRequest) -> PostgresCase:
    return _postgres_case(request)


@pytest.fixture(params=["redshift-workspace sandbox"])
def on_redshift(request: pytest.FixtureRequest) -> PostgresCase:
    return _postgres_case(request)


def _postgres_case(request: pytest.FixtureRequest) -> PostgresCase:
    case = make_case(request)
    assert isinstance(case, PostgresCase)
    return case


def limited(
    workspace: PostgresCase, limits: Limits, **changes: Any
) -> tuple[PostgresCase, RedshiftBackend]:
    """Return the same with limits of a type, and without any connection so far."""
    server = replace(workspace.server, **changes)
    backend = RedshiftBackend(
        workspace.backend.name, (server,), {**NO_LIMITS, "writer": limits}, timeout=2, connections=2
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
        "hostname": workspace.server.host,
        "port": workspace.server.port,
        "db": workspace.server.database,
        "schema": f"{workspace.prefix}workspace_{number}",
        "workspaceId": number,
        "user": f"{workspace.prefix}sapi_workspace_{number}",
        "password": password.reveal(),
    }


def test_a_new_session_is_in_the_workspaces_schema(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    with workspace.session(spec, password) as connection:
        assert run(connection, "SELECT current_schema()") == [(spec.object_name,)]


def test_another_workspace_is_neither_seen_nor_read(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    other, others_password = workspace.made()
    with workspace.session(other, others_password) as connection:
        run(connection, "CREATE TABLE theirs (a INT)")
    with workspace.session(spec, password) as connection:
        for statement in workspace.forbidden(other):
            with pytest.raises(InsufficientPrivilege):
                run(connection, statement)
        for relation, column in (("tables", "table_schema"), ("schemata", "schema_name")):
            seen = f"SELECT * FROM information_schema.{relation} WHERE {column} = "
            assert run(connection, f"{seen}'{other.object_name}'") == []
    with workspace.session(other, others_password) as connection:
        assert run(connection, "SELECT * FROM theirs") == []


def test_drop_frees_a_login_that_others_gave_rights_or_that_made_things_elsewhere(
    workspace: PostgresCase,
) -> None:
    spec, password = workspace.made()
    shared, database = f"{workspace.prefix}shared", workspace.server.database
    user, admin = f'"{spec.user_name}"', workspace.server.user
    for statement in (
        f"CREATE SCHEMA {shared} AUTHORIZATION {admin}",
        f"CREATE TABLE {shared}.theirs (a INT, b INT)",
        f"ALTER TABLE {shared}.theirs OWNER TO {admin}",
        f"GRANT ALL ON SCHEMA {shared} TO {user}",
        f"GRANT SELECT ON {shared}.theirs TO {user}",
        f"GRANT UPDATE (b) ON {shared}.theirs TO {user}",
        f"GRANT TEMPORARY ON DATABASE {database} TO {user}",
        f"ALTER DEFAULT PRIVILEGES FOR USER {admin} GRANT SELECT ON TABLES TO {user}",
        f"ALTER DEFAULT PRIVILEGES FOR USER {admin} IN SCHEMA {shared} "
        f"GRANT EXECUTE ON FUNCTIONS TO {user}",
    ):
        workspace.admin(statement)
    with workspace.session(spec, password) as connection:
        for statement in (
            f"CREATE TABLE {shared}.mine (a INT)",
            f"CREATE VIEW {shared}.seen AS SELECT a FROM {shared}.theirs",
            f"CREATE FUNCTION {shared}.f(INT, TEXT) RETURNS INT LANGUAGE SQL AS 'SELECT 1'",
            f"CREATE PROCEDURE {shared}.p(INT) LANGUAGE SQL AS 'SELECT 1'",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {shared} GRANT SELECT ON TABLES TO {admin}",
        ):
            run(connection, statement)
    workspace.backend.drop(spec, lease())
    assert workspace.remains(spec) == []
    left = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
    assert workspace.admin(left, shared) == [("theirs",)]
    left = "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace"
    assert workspace.admin(left, shared) == []


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
            run(connection, f"SELECT pg_sleep({ENDLESS})")


def test_a_process_without_connections_asks_in_the_servers_own_words(
    workspace: PostgresCase,
) -> None:
    spec, password = workspace.made()
    for look in (RedshiftBackend.exists, RedshiftBackend.in_use):
        _, fresh = limited(workspace, Limits(0, 0))
        with workspace.session(spec, password):
            assert look(fresh, spec)


# PostgreSQL -----------------------------------------------------------------------------


def test_a_drop_that_cannot_end_says_what_is_in_the_way(on_postgresql: PostgresCase) -> None:
    spec, _ = on_postgresql.made()
    # The admin may not revoke what was granted on things of others.
    on_postgresql.admin(f'GRANT SELECT ON pg_class TO "{spec.user_name}"')
    with pytest.raises(EngineBusy, match="privileges for table pg_class"):
        on_postgresql.backend.drop(spec, lease())
    on_postgresql.admin(f'REVOKE SELECT ON pg_class FROM "{spec.user_name}"')
    on_postgresql.backend.drop(spec, lease())
    assert on_postgresql.remains(spec) == []


def test_drop_takes_large_objects_along(on_postgresql: PostgresCase) -> None:
    spec, password = on_postgresql.made()
    with on_postgresql.session(spec, password) as connection:
        ((number,),) = run(connection, "SELECT lo_create(0)")
    on_postgresql.backend.drop(spec, lease())
    assert on_postgresql.remains(spec) == []
    left = "SELECT 1 FROM pg_largeobject_metadata WHERE oid = %s"
    assert on_postgresql.admin(left, number) == []


def test_a_hung_server_fails_in_time_and_is_back_after(
    on_postgresql: PostgresCase, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Postgres(tmp_path_factory.mktemp("hung-postgres"))
    server.start()
    try:
        case, backend = limited(
            on_postgresql,
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
        assert time.monotonic() - start < DEADLINE
        server.resume()
        assert backend.exists(spec)
    finally:
        server.stop()


def test_a_login_at_a_silent_server_keeps_its_own_time_out() -> None:
    # Also of connections that are not the backend's, such as the state database's.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(psycopg2.OperationalError, match="no answer"):
            psycopg2.connect(
                host="127.0.0.1", port=silent.getsockname()[1], user="a", connect_timeout=1
            )
    assert time.monotonic() - start < DEADLINE


@pytest.mark.parametrize(
    ("right", "said"),
    [("NOCREATEROLE", "cannot create users: ALTER USER"), ("CREATEROLE", "cannot create schemas")],
)
def test_check_names_the_right_that_is_missing(
    on_postgresql: PostgresCase, right: str, said: str
) -> None:
    password = generate_password()
    name = f"{on_postgresql.prefix}admin"
    on_postgresql.admin(f'CREATE USER "{name}" {right} PASSWORD %s', password.reveal())
    if right == "NOCREATEROLE":
        on_postgresql.admin(f'GRANT CREATE ON DATABASE warehouse TO "{name}"')
    _, backend = limited(on_postgresql, Limits(0, 0), user=name, password=password)
    (health,) = backend.check()
    assert not health.alive
    assert said in health.message
    assert f'"{name}"' in health.message


def test_check_tells_what_is_unsafe(workspace: PostgresCase) -> None:
    _, unlimited = limited(workspace, Limits(0, 0))
    assert "one writer login may take all connections" in unlimited.check()[0].message
    limits = dict.fromkeys(NO_LIMITS, Limits(20, 0))
    backend = RedshiftBackend(
        workspace.backend.name, (workspace.server,), limits, timeout=DEADLINE, connections=2
    )
    is_postgresql = workspace.backend.name == "postgresql"

    def message() -> str:
        (health,) = backend.check()
        assert health.alive
        return health.message

    # Nobody has taken that from PUBLIC on this server; Redshift has no such locks.
    assert ("every login may take advisory locks" in message()) == is_postgresql
    # In Redshift's words everybody may, unless somebody takes it from them.
    open_schema = "every login may create in the schema public: REVOKE CREATE ON SCHEMA public"
    assert (open_schema in message()) != is_postgresql
    for change, opened in (("GRANT {} TO", True), ("REVOKE {} FROM", False)):
        workspace.admin(f"{change.format('CREATE ON SCHEMA public')} PUBLIC")
        assert (open_schema in message()) == opened
    if not is_postgresql:
        workspace.admin("GRANT CREATE ON SCHEMA public TO PUBLIC")
    backend.close()


# Redshift: its own words, on the stand-in -----------------------------------------------

#: How Redshift lists sessions.
SESSIONS = (
    "(SELECT process, TRIM(user_name), TRIM(db_name) FROM stv_sessions) "
    "AS sessions (process, name, db)"
)


def plain(said: list[str]) -> list[str]:
    """Return statements without what is different each time.

    That is secrets, numbers, repetitions, and the question whether an idle connection works.
    """
    for pattern, replacement in (
        (r"PASSWORD '\w+'", "PASSWORD '...'"),
        (r"(process = |pg_terminate_backend\()\d+", r"\1N"),
    ):
        said = [re.sub(pattern, replacement, sql) for sql in said]
    return [sql for sql, _ in itertools.groupby(said) if sql != "SELECT 1"]


def looked_for(spec: Spec) -> str:
    return (
        f"SELECT (SELECT COUNT(*) FROM pg_user WHERE usename = '{spec.user_name}'), "
        f"(SELECT COUNT(*) FROM pg_namespace WHERE nspname = '{spec.object_name}')"
    )


def test_the_server_tells_which_of_the_two_it_is() -> None:
    assert detect(VERSION) is REDSHIFT
    assert detect("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64") is POSTGRESQL


def test_what_is_said_to_redshift_for_a_new_workspace(
    on_redshift: PostgresCase, redshift_stand_in: RedshiftStandIn
) -> None:
    case, backend = limited(on_redshift, Limits(connections=0, statement_seconds=900))
    end_of_2036 = 2_114_380_800_000
    spec = replace(case.spec(), expires_at=end_of_2036)
    with redshift_stand_in.recording() as said:
        backend.create(spec, generate_password(), lease())
        backend.prolong(replace(spec, expires_at=None))
    user, schema = f'"{spec.user_name}"', f'"{spec.object_name}"'
    assert plain(said) == [
        "SELECT version()",
        "SET search_path TO pg_catalog",
        "SET statement_timeout = 2000",
        f"CREATE USER {user} WITH PASSWORD '...' VALID UNTIL '2037-01-01 01:00:00+00' "
        "CONNECTION LIMIT UNLIMITED",
        f"ALTER USER {user} SET search_path = {schema}",
        f"ALTER USER {user} SET statement_timeout = 900000",
        f"CREATE SCHEMA {schema} AUTHORIZATION {user} QUOTA 10 GB",
        f"SELECT 1 FROM {SESSIONS} WHERE process = N",
        f"ALTER USER {user} VALID UNTIL 'infinity'",
    ]


def test_what_is_said_to_redshift_to_finish_a_workspace(
    on_redshift: PostgresCase, redshift_stand_in: RedshiftStandIn
) -> None:
    case, backend = limited(on_redshift, Limits(connections=3, statement_seconds=0))
    spec, password = case.made()
    with redshift_stand_in.recording() as said:
        backend.create(spec, password, lease(token=2))
    user, schema = f'"{spec.user_name}"', f'"{spec.object_name}"'
    options = "WITH PASSWORD '...' VALID UNTIL 'infinity' CONNECTION LIMIT 3"
    # It looks first: a CREATE USER that fails would be logged with the password.
    assert plain(said) == [
        f"SELECT 1 FROM pg_user WHERE usename = '{spec.user_name}'",
        f"ALTER USER {user} {options}",
        f"ALTER USER {user} SET search_path = {schema}",
        f"ALTER USER {user} SET statement_timeout = 0",
        f"CREATE SCHEMA {schema} AUTHORIZATION {user} QUOTA 10 GB",
        f"ALTER SCHEMA {schema} OWNER TO {user}",
        f"SELECT 1 FROM {SESSIONS} WHERE process = N",
    ]


def test_what_is_said_to_redshift_to_drop_a_workspace(
    on_redshift: PostgresCase, redshift_stand_in: RedshiftStandIn
) -> None:
    spec, password = on_redshift.made()
    user = f'"{spec.user_name}"'
    with (
        on_redshift.session(spec, password),
        redshift_stand_in.recording() as said,
    ):
        on_redshift.backend.drop(spec, lease())
    look = f"SELECT process FROM {SESSIONS} WHERE name = '{spec.user_name}'"
    assert plain(said) == [
        f"ALTER USER {user} WITH PASSWORD '...' CONNECTION LIMIT 0",
        look,
        "SELECT pg_terminate_backend(N)",
        look,
        f'DROP SCHEMA IF EXISTS "{spec.object_name}" CASCADE',
        f"DROP USER IF EXISTS {user}",
        looked_for(spec),
    ]


def test_what_is_said_to_redshift_to_drop_a_login_with_ties(
    on_redshift: PostgresCase, redshift_stand_in: RedshiftStandIn
) -> None:
    spec, password = on_redshift.made()
    user, mine = f'"{spec.user_name}"', f"{on_redshift.prefix}mine"
    on_redshift.admin(f"GRANT SELECT (relname) ON pg_class TO {user}")
    on_redshift.admin(f"GRANT CREATE ON DATABASE dev TO {user}")
    on_redshift.admin(f"ALTER DEFAULT PRIVILEGES FOR USER awsuser GRANT ALL ON TABLES TO {user}")
    with on_redshift.session(spec, password) as connection:
        run(connection, f"CREATE TABLE public.{mine} (a INT)")
        run(
            connection, f"CREATE FUNCTION public.{mine}(INT) RETURNS INT LANGUAGE SQL AS 'SELECT 1'"
        )
        run(connection, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO awsuser")
    with redshift_stand_in.recording() as said:
        on_redshift.backend.drop(spec, lease())
    changes = [sql for sql in plain(said) if not sql.startswith("SELECT")]
    assert changes[2:] == [
        f"DROP USER IF EXISTS {user}",
        f'DROP TABLE IF EXISTS "public"."{mine}" CASCADE',
        f'DROP FUNCTION "public"."{mine}"(integer) CASCADE',
        f'REVOKE ALL ("relname") ON "pg_catalog"."pg_class" FROM {user}',
        f'REVOKE ALL ON DATABASE "dev" FROM {user}',
        f'ALTER DEFAULT PRIVILEGES FOR USER "awsuser" REVOKE ALL ON TABLES FROM {user}',
        f'ALTER DEFAULT PRIVILEGES FOR USER {user} REVOKE ALL ON TABLES FROM "awsuser"',
        f"ALTER DEFAULT PRIVILEGES FOR USER {user} REVOKE ALL ON TABLES FROM {user}",
        f"ALTER DEFAULT PRIVILEGES FOR USER {user} GRANT ALL ON TABLES TO {user}",
        f"DROP USER IF EXISTS {user}",
    ]
    assert on_redshift.remains(spec) == []


class FadingLease(Lease):
    """Holds for a number of looks at it."""

    def __init__(self, looks: int) -> None:
        super().__init__(Credentials, 0, 1, math.inf)
        self._looks = looks

    def check(self) -> None:
        self._looks -= 1
        if self._looks < 0:
            raise ClaimLost


def test_a_holder_that_is_replaced_midway_says_nothing_more_to_redshift(
    on_redshift: PostgresCase, redshift_stand_in: RedshiftStandIn
) -> None:
    spec = on_redshift.spec()
    for looks in (2, 3):
        with redshift_stand_in.recording() as said, pytest.raises(ClaimLost):
            on_redshift.backend.create(spec, generate_password(), FadingLease(looks))
        # One look is at the beginning.
        assert len(plain(said)) == looks - 1
        on_redshift.backend.drop(spec, lease())


def test_access_lists_name_users_groups_and_everybody() -> None:
    acl = 'admin=arwdRxt/admin,group their group=r/admin,"Odd User"=r*w/admin,=X/admin'
    assert list(grantees(acl)) == ['"admin"', 'GROUP "their group"', '"Odd User"', "PUBLIC"]
    assert list(grantees(None)) == []


def test_check_wants_a_superuser_on_redshift(on_redshift: PostgresCase) -> None:
    password = generate_password()
    name = f"{on_redshift.prefix}admin"
    on_redshift.admin(f'CREATE USER "{name}" CREATEROLE PASSWORD %s', password.reveal())
    on_redshift.admin(f'GRANT CREATE ON DATABASE dev TO "{name}"')
    _, backend = limited(on_redshift, Limits(0, 0), user=name, password=password)
    (health,) = backend.check()
    assert not health.alive
    assert f'cannot create users: ALTER USER "{name}" CREATEUSER' in health.message


def test_check_names_a_catalog_that_is_missing(
    on_redshift: PostgresCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = replace(REDSHIFT, sessions="SELECT 1 FROM stv_nothing")
    monkeypatch.setattr(redshift_server, "detect", lambda version: without)
    _, backend = limited(on_redshift, Limits(0, 0))
    (health,) = backend.check()
    assert not health.alive
    assert "stv_nothing" in health.message


def test_postgresqls_words_do_not_work_on_the_stand_in(
    on_redshift: PostgresCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redshift_server, "detect", lambda version: POSTGRESQL)
    _, backend = limited(on_redshift, Limits(0, 0))
    (health,) = backend.check()
    assert not health.alive
    assert "lock_timeout" in health.message


@pytest.mark.parametrize(
    ("sql", "state"),
    [
        ("DROP OWNED BY awsuser", "42601"),
        ("REASSIGN OWNED BY awsuser TO postgres", "42601"),
        ('GRANT "awsuser" TO CURRENT_USER', "42601"),
        ("SELECT pg_advisory_lock(1)", "42883"),
        ("SELECT pg_try_advisory_lock(1)", "42883"),
        ("SELECT pg_advisory_unlock_all()", "42883"),
        ("SELECT aclexplode(datacl) FROM pg_database", "42883"),
        ("SET lock_timeout = '2s'", "42704"),
        ("SELECT rolname FROM pg_roles", "42P01"),
        ("SELECT defaclrole FROM pg_default_acl", "42703"),
        ("SELECT pid FROM pg_stat_activity", "42703"),
        ("SELECT 1 WHERE 'a_b' LIKE E'a\\\\_b'", "42704"),
    ],
)
def test_the_stand_in_refuses_what_redshift_lacks(
    redshift_stand_in: RedshiftStandIn, sql: str, state: str
) -> None:
    stand_in = redshift_stand_in
    with closing(
        psycopg2.connect(
            host=stand_in.host,
            port=stand_in.port,
            dbname=stand_in.database,
            user=stand_in.user,
            password=stand_in.password.reveal(),
        )
    ) as connection:
        connection.autocommit = True
        with pytest.raises(psycopg2.Error) as refused:
            run(connection, sql)
        assert refused.value.pgcode == state
