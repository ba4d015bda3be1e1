"""Workspaces on PostgreSQL and on Redshift's stand-in (contract sections 6 and 10)."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from devstack.postgres import Postgres
from provisioning.credentials.protection import protect
from tests.contract.conftest import ServiceMaker
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, ENDLESS, wait_until
from tests.support.redshift_stand_in import RedshiftStandIn
from tests.support.service import Service

TYPES = ("transformations", "sandbox", "writer", "luckyguess")
DATABASE = "workspaces"


@pytest.fixture(scope="module")
def service(
    make_service: ServiceMaker, postgres: Postgres, redshift_stand_in: RedshiftStandIn
) -> Iterator[Service]:
    """A service whose two workspace backends are databases of one PostgreSQL."""
    postgres.ensure_database(DATABASE)
    login = postgres.database_url(DATABASE).partition("://")[2]
    environment = {
        "POSTGRESQL_URL": f"postgresql://{login}",
        "REDSHIFT_WORKSPACE_URL": redshift_stand_in.url,
        "REDSHIFT_WORKSPACE_WRITER_STATEMENT_SECONDS": "1",
    }
    with make_service(environment, workers=1, beats=1) as service:
        yield service


@pytest.fixture(params=["redshift-workspace", "postgresql"])
def path(request: pytest.FixtureRequest) -> str:
    return f"/provisioning/{request.param}"


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def create(client: Client, path: str, type_: str = "sandbox") -> dict[str, Any]:
    answer = client.post(path, {"type": type_})
    assert answer.status == 201, answer
    body: dict[str, Any] = answer.body
    return body


def connect(credentials: dict[str, Any]) -> Any:
    connection = psycopg2.connect(
        host=credentials["hostname"],
        port=credentials["port"],
        dbname=credentials["db"],
        user=credentials["user"],
        password=credentials["password"],
    )
    connection.autocommit = True
    return connection


def run(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def as_admin(postgres: Postgres, database: str, sql: str) -> list[tuple[Any, ...]]:
    url = postgres.database_url(database).replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        return run(connection, sql)


def test_a_workspace_has_the_keys_of_the_table(service: Service, client: Client, path: str) -> None:
    body = create(client, path)
    number, prefix = body["workspaceId"], service.installation.prefix
    assert isinstance(number, str)
    assert set(body) == {
        "id",
        "status",
        "touch",
        "url",
        "workspaceId",
        "credentials",
        "expiration",
        "canExtend",
    }
    assert set(body["credentials"]) == {
        "id",
        "hostname",
        "port",
        "db",
        "schema",
        "workspaceId",
        "user",
        "password",
    }
    assert body["credentials"]["workspaceId"] == number
    assert body["credentials"]["schema"] == f"{prefix}workspace_{number}"
    assert body["credentials"]["user"] == f"{prefix}sapi_workspace_{number}"
    assert body["url"] == f"{path.rpartition('/')[2]}/{body['id']}"
    assert create(client, path) == body
    read = client.get(f"{path}/{body['id']}").body
    assert (read["workspaceId"], read["credentials"]) == (number, body["credentials"])
    assert read["inUse"] is False


def test_every_type_is_a_workspace_of_its_own(client: Client, path: str) -> None:
    bodies = [create(client, path, type_) for type_ in TYPES]
    assert len({body["id"] for body in bodies}) == len(TYPES)
    assert len({body["credentials"]["user"] for body in bodies}) == len(TYPES)
    for body, type_ in zip(bodies, TYPES, strict=True):
        assert (body["expiration"] is None) == (type_ in ("writer", "luckyguess"))


def test_a_workspace_holds_its_owners_tables_and_nobody_elses(client: Client, path: str) -> None:
    mine, theirs = (
        create(client, path, type_)["credentials"] for type_ in ("sandbox", "luckyguess")
    )
    with closing(connect(mine)) as connection, closing(connect(theirs)) as other:
        run(connection, "CREATE TABLE orders (a INT)")
        run(connection, "INSERT INTO orders VALUES (42)")
        assert run(connection, "SELECT a FROM orders") == [(42,)]
        run(other, "CREATE TABLE salaries (a INT)")
        seen = run(connection, "SELECT table_name FROM information_schema.tables")
        assert ("orders",) in seen
        assert ("salaries",) not in seen
        for statement in (
            f"SELECT * FROM {theirs['schema']}.salaries",
            f"CREATE TABLE {theirs['schema']}.t (a INT)",
            "CREATE SCHEMA mine_alone",
            "CREATE USER mallory PASSWORD 'Long-enough-1'",
        ):
            with pytest.raises(InsufficientPrivilege):
                run(connection, statement)


def test_a_workspace_on_redshift_cannot_read_the_clusters_metadata(client: Client) -> None:
    credentials = create(client, "/provisioning/redshift-workspace")["credentials"]
    with closing(connect(credentials)) as connection, pytest.raises(InsufficientPrivilege):
        run(connection, "SELECT * FROM SVV_TABLE_INFO")


@pytest.mark.parametrize("end", ["kill", "drop"])
def test_a_busy_session_ends(client: Client, postgres: Postgres, path: str, end: str) -> None:
    body = create(client, path)
    credentials, address = body["credentials"], f"{path}/{body['id']}"
    ended: list[Exception] = []

    def sleep_long() -> None:
        try:
            run(connection, f"SELECT pg_sleep({ENDLESS})")
        except psycopg2.Error as error:
            ended.append(error)

    def left(query: str) -> list[tuple[Any, ...]]:
        sql = query.format(user=credentials["user"], schema=credentials["schema"])
        return as_admin(postgres, credentials["db"], sql)

    busy = "SELECT 1 FROM pg_stat_activity WHERE usename = '{user}' AND state = 'active'"
    with closing(connect(credentials)) as connection:
        run(connection, "CREATE TABLE t (a INT)")
        running = threading.Thread(target=sleep_long)
        running.start()
        wait_until(lambda: left(busy), what="the statement runs")
        answer = client.delete(address) if end == "drop" else client.post(f"{address}/kill")
        assert answer.body == {"status": "ok"}
        running.join(DEADLINE)
    assert len(ended) == 1
    assert left("SELECT 1 FROM pg_stat_activity WHERE usename = '{user}'") == []
    if end == "kill":
        with closing(connect(credentials)) as again:
            assert run(again, "SELECT COUNT(*) FROM t") == [(0,)]
        return
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        connect(credentials)
    assert left("SELECT 1 FROM pg_user WHERE usename = '{user}'") == []
    assert left("SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []


def test_a_workspace_is_used_seen_in_use_killed_and_dropped(client: Client, path: str) -> None:
    body = create(client, path)
    address = f"{path}/{body['id']}"
    with closing(connect(body["credentials"])) as connection:
        run(connection, "CREATE TABLE t (a INT)")
        assert client.get(address).body["inUse"] is True
        assert client.post(f"{address}/kill").body == {"status": "ok"}
        with pytest.raises(psycopg2.Error):
            run(connection, "SELECT 1")
    wait_until(lambda: not client.get(address).body["inUse"], what="not in use")
    with closing(connect(body["credentials"])) as connection:
        assert run(connection, "SELECT COUNT(*) FROM t") == [(0,)]
        assert client.delete(address).body == {"status": "ok"}
        with pytest.raises(psycopg2.Error):
            run(connection, "SELECT 1")
    with pytest.raises(psycopg2.Error):
        connect(body["credentials"])
    assert client.get(address).status == 404
    assert client.delete(address).status == 404


def test_a_login_whose_owner_changed_the_password_is_mended_or_renewed(
    client: Client, path: str
) -> None:
    created = create(client, path)
    with closing(connect(created["credentials"])) as connection:
        run(connection, "ALTER USER CURRENT_USER PASSWORD 'Changed-by-me-1'")
    assert create(client, path) == created
    with closing(connect(created["credentials"])) as connection:
        answer = client.post(f"{path}/{created['id']}/password", {"endSessions": True})
        assert answer.status == 200, answer
        with pytest.raises(psycopg2.Error):
            run(connection, "SELECT 1")
    renewed = answer.body["credentials"]
    connect(renewed).close()
    with pytest.raises(psycopg2.Error):
        connect(created["credentials"])
    assert create(client, path)["credentials"] == renewed


@pytest.mark.parametrize("gone", ["schema", "user"])
def test_a_vanished_workspace_is_404_and_the_next_has_a_new_number(
    client: Client, postgres: Postgres, path: str, gone: str
) -> None:
    body = create(client, path)
    schema, user = body["credentials"]["schema"], body["credentials"]["user"]
    database = body["credentials"]["db"]
    if gone == "schema":
        as_admin(postgres, database, f'DROP SCHEMA "{schema}" CASCADE')
    else:
        as_admin(postgres, database, f'ALTER SCHEMA "{schema}" OWNER TO postgres')
        as_admin(postgres, database, f'DROP USER "{user}"')
    assert client.get(f"{path}/{body['id']}").status == 404
    fresh = create(client, path)
    assert fresh["id"] != body["id"]
    assert fresh["workspaceId"] != body["workspaceId"]
    left = (
        f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}' "
        f"UNION ALL SELECT 1 FROM pg_user WHERE usename = '{user}'"
    )
    wait_until(
        lambda: as_admin(postgres, database, left) == [],
        what="the old workspace's remains gone",
    )


def test_an_extend_moves_the_end_that_the_database_itself_keeps(
    client: Client, postgres: Postgres, path: str
) -> None:
    body = create(client, path)
    ends = f"SELECT valuntil FROM pg_user WHERE usename = '{body['credentials']['user']}'"
    database = body["credentials"]["db"]
    ((before,),) = as_admin(postgres, database, ends)
    extended = client.post(f"{path}/{body['id']}/extend").body
    assert extended["touch"] > body["touch"]
    ((after,),) = as_admin(postgres, database, ends)
    assert after > before


def test_a_statement_limit_of_a_type_is_the_servers(client: Client) -> None:
    body = create(client, "/provisioning/redshift-workspace", "writer")
    with (
        closing(connect(body["credentials"])) as connection,
        pytest.raises(psycopg2.errors.QueryCanceled),
    ):
        run(connection, f"SELECT pg_sleep({ENDLESS})")


def test_a_server_that_is_away_is_503_and_nothing_has_vanished(
    make_service: ServiceMaker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Postgres(tmp_path_factory.mktemp("away-postgres"))
    with server:
        login = server.url.partition("://")[2]
        environment = {"POSTGRESQL_URL": f"postgresql://{login}", "ENGINE_TIMEOUT_SECONDS": "2s"}
        with make_service(environment, workers=1, beats=1) as service:
            client = service.client()
            body = create(client, "/provisioning/postgresql")
            server.kill()
            for method, path in (
                ("POST", "/provisioning/postgresql"),
                ("GET", f"/provisioning/postgresql/{body['id']}"),
                ("DELETE", f"/provisioning/postgresql/{body['id']}"),
                ("POST", f"/provisioning/postgresql/{body['id']}/extend"),
            ):
                answer = client(method, path, {"type": "sandbox"} if path[-1] == "l" else None)
                assert (answer.status, answer.body["reason"]) == (503, "backend_unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
            server.start()
            wait_until(
                lambda: client.get(f"/provisioning/postgresql/{body['id']}").status == 200,
                what="the workspace seen again",
            )


def test_a_password_lasts_as_long_as_the_protection(
    service: Service, client: Client, path: str, postgres: Postgres
) -> None:
    created = create(client, path)
    query = f"""SELECT extract(epoch FROM valuntil)::bigint FROM pg_user
        WHERE usename = '{created["credentials"]["user"]}'"""
    database = created["credentials"]["db"]
    ((before,),) = as_admin(postgres, database, query)
    until = (before + 30 * 86_400) * 1000
    protect(service.installation, int(created["id"]), until, "ada")
    assert as_admin(postgres, database, query) == [(until // 1000 + 3600,)]
    assert client.post(f"{path}/{created['id']}/extend").status == 200
    assert as_admin(postgres, database, query) == [(until // 1000 + 3600,)], "later than its end"
    protect(service.installation, int(created["id"]), None, "ada")
    ((after,),) = as_admin(postgres, database, query)
    assert before < after < before + 600
