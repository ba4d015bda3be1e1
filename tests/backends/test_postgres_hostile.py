"""PostgreSQL: access ends whatever a tenant holds, and what is left is removed in the end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from provisioning.backends.base import EngineBusy, EngineError, RemovalUnfinished, Spec
from provisioning.backends.redshift import RedshiftBackend, blockers, removal
from provisioning.backends.redshift import server as server_module
from provisioning.backends.redshift.dialect import POSTGRESQL
from provisioning.configuration.secrets import Secret
from tests.backends.case import NO_LIMITS, lease
from tests.backends.conftest import PostgresCase, make_case
from tests.support.deadlines import bar

#: Seconds in which access has to end whatever a tenant holds.
OUT = bar(10)
#: Seconds until everything is gone, on a machine that is busy with other things.
TIDY = 120.0


@pytest.fixture(params=["postgresql sandbox", "newest-postgresql sandbox"])
def workspace(request: pytest.FixtureRequest) -> PostgresCase:
    case = make_case(request)
    assert isinstance(case, PostgresCase)
    return case


def connect(case: PostgresCase, spec: Spec, password: Secret, database: str | None = None) -> Any:
    connection = psycopg2.connect(
        host=case.server.host,
        port=case.server.port,
        dbname=database or case.server.database,
        user=spec.user_name,
        password=password.reveal(),
        connect_timeout=10,
    )
    connection.autocommit = True
    return connection


def run(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


class Removal:
    """One `drop`, with the moment at which access had ended."""

    def __init__(self, case: PostgresCase, spec: Spec) -> None:
        self.case, self.spec = case, spec
        self.out: float | None = None
        self.turns = 0

    def turn(self) -> bool:
        """Take one turn; return whether it was the last. Errors are those of `drop`."""
        start, self.turns = time.monotonic(), self.turns + 1

        def note() -> None:
            self.out = time.monotonic() - start

        try:
            self.case.backend.drop(self.spec, lease(token=self.turns + 1), note)
        except RemovalUnfinished:
            return False
        return True

    def finish(self) -> None:
        """Take turns until everything is gone."""
        end = time.monotonic() + TIDY
        while not self.turn():
            assert time.monotonic() < end, "it takes too many turns"


def assert_out(removal: Removal, password: Secret, *sessions: Any) -> None:
    """Access ended in time: no new login, and no open session."""
    assert removal.out is not None and removal.out < OUT
    with pytest.raises(psycopg2.OperationalError):
        connect(removal.case, removal.spec, password)
    for session in sessions:
        with pytest.raises(psycopg2.Error):
            run(session, "SELECT 1")


def assert_gone(removal: Removal, password: Secret, *sessions: Any) -> None:
    assert_out(removal, password, *sessions)
    assert removal.case.remains(removal.spec) == []


def hold_own_row(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    run(session, "BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    return session


def hold_table(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    run(session, "CREATE TABLE held (a INT)", "BEGIN", "LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
    return session


def hold_own_settings(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    run(session, "BEGIN", "ALTER ROLE CURRENT_USER SET work_mem = '1MB'")
    return session


def hold_advisory_locks(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    run(session, "SELECT count(pg_advisory_lock(n)) FROM generate_series(0, 999) AS n")
    return session


def leave_the_admins_roles(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    with suppress(psycopg2.Error):
        # PostgreSQL 16 lets no role do this to itself.
        run(session, f'REVOKE "{spec.user_name}" FROM "{case.server.user}"')
    return session


def grant_in_a_transaction(case: PostgresCase, spec: Spec, password: Secret) -> Any:
    session = connect(case, spec, password)
    run(session, "CREATE TABLE shared (a INT)", "BEGIN", "GRANT SELECT ON shared TO PUBLIC")
    return session


@pytest.mark.parametrize(
    "hold",
    [
        hold_own_row,
        hold_table,
        hold_own_settings,
        hold_advisory_locks,
        leave_the_admins_roles,
        grant_in_a_transaction,
    ],
)
def test_access_ends_whatever_the_login_holds(
    workspace: PostgresCase, hold: Callable[[PostgresCase, Spec, Secret], Any]
) -> None:
    spec, password = workspace.made()
    session = hold(workspace, spec, password)
    removal = Removal(workspace, spec)
    removal.finish()
    assert_gone(removal, password, session)


def test_without_the_watch_a_login_that_holds_its_own_row_stays(
    workspace: PostgresCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockers, "PATIENCE", 60)
    monkeypatch.setattr(removal, "OUT_SECONDS", 0.5)
    spec, password = workspace.made()
    session = hold_own_row(workspace, spec, password)
    with pytest.raises(EngineError):
        workspace.backend.drop(spec, lease())
    connect(workspace, spec, password).close()
    session.close()


def test_access_ends_under_a_storm_of_sessions_that_hold_the_logins_row(
    workspace: PostgresCase,
) -> None:
    spec, password = workspace.made()
    stop, began = threading.Event(), threading.Semaphore(0)

    def come_back() -> None:
        while not stop.is_set():
            with suppress(psycopg2.Error), closing(connect(workspace, spec, password)) as session:
                began.release()
                run(
                    session,
                    "BEGIN",
                    "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
                    "SELECT pg_sleep(60)",
                )

    storm = [threading.Thread(target=come_back, daemon=True) for _ in range(30)]
    for thread in storm:
        thread.start()
    for _ in storm:
        assert began.acquire(timeout=60)
    removal = Removal(workspace, spec)
    try:
        removal.finish()
        assert_gone(removal, password)
    finally:
        stop.set()
        for thread in storm:
            thread.join(60)


@pytest.fixture
def prepared(workspace: PostgresCase) -> Iterator[PostgresCase]:
    """A workspace on a server whose sessions may prepare transactions."""
    if run_as_admin(workspace, "SHOW max_prepared_transactions") == [("0",)]:
        pytest.fail("the tests' server lets no transaction be prepared")
    yield workspace


def run_as_admin(case: PostgresCase, *statements: str, database: str | None = None) -> Any:
    with closing(
        psycopg2.connect(
            case.postgres.database_url(database or case.server.database).replace("+psycopg2", "")
        )
    ) as connection:
        connection.autocommit = True
        return run(connection, *statements)


@pytest.mark.parametrize("database", [None, "postgres"], ids=["here", "in another database"])
@pytest.mark.parametrize(
    "statement", ["ALTER ROLE CURRENT_USER PASSWORD 'mine'", "CREATE TEMPORARY TABLE t (a INT)"]
)
def test_what_the_login_has_prepared_is_rolled_back(
    prepared: PostgresCase, statement: str, database: str | None
) -> None:
    if statement.startswith("CREATE"):
        statement = "SELECT lo_create(0)"
    spec, password = prepared.made()
    session = connect(prepared, spec, password, database)
    run(session, "BEGIN", statement, f"PREPARE TRANSACTION '{spec.user_name}'")
    session.close()
    removal = Removal(prepared, spec)
    removal.finish()
    assert_gone(removal, password)


def shared_table(case: PostgresCase, spec: Spec, password: Secret, other: Spec) -> None:
    with closing(connect(case, spec, password)) as session:
        run(
            session,
            "CREATE TABLE shared (a INT PRIMARY KEY)",
            f'GRANT USAGE ON SCHEMA "{spec.object_name}" TO "{other.user_name}"',
            f'GRANT ALL ON shared TO "{other.user_name}"',
        )


def test_a_reader_in_another_workspace_is_ended(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    other, others_password = workspace.made()
    shared_table(workspace, spec, password, other)
    reader = connect(workspace, other, others_password)
    run(reader, "BEGIN", f'SELECT * FROM "{spec.object_name}".shared')
    removal = Removal(workspace, spec)
    removal.finish()
    assert_gone(removal, password)
    connect(workspace, other, others_password).close()


def test_a_foreign_key_of_another_workspace_goes_with_the_table(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    other, others_password = workspace.made()
    shared_table(workspace, spec, password, other)
    with closing(connect(workspace, other, others_password)) as session:
        run(session, f'CREATE TABLE mine (a INT REFERENCES "{spec.object_name}".shared)')
    removal = Removal(workspace, spec)
    removal.finish()
    assert_gone(removal, password)


def test_whoever_else_is_in_the_way_is_named(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    with closing(connect(workspace, spec, password)) as session:
        run(session, "CREATE TABLE held (a INT)")
    with closing(
        psycopg2.connect(
            workspace.postgres.database_url(workspace.server.database).replace("+psycopg2", "")
        )
    ) as stranger:
        run(stranger, f'SELECT * FROM "{spec.object_name}".held')
        removal = Removal(workspace, spec)
        with pytest.raises(EngineBusy, match=r"held up by session \d+ of postgres"):
            removal.finish()
        assert_out(removal, password)
    removal.finish()
    assert_gone(removal, password)


def test_thousands_of_objects_go_in_turns(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    with closing(connect(workspace, spec, password)) as session:
        for first in range(0, 4000, 250):
            run(
                session,
                f"DO $$ BEGIN FOR i IN {first}..{first + 249} LOOP EXECUTE "
                "format('CREATE TABLE t%s (id SERIAL PRIMARY KEY, t TEXT)', i); "
                "END LOOP; END $$",
            )
        run(
            session,
            "CREATE VIEW seen AS SELECT * FROM t0",
            "CREATE TYPE pair AS (a INT, b INT)",
            "CREATE DOMAIN positive AS INT CHECK (VALUE > 0)",
            "CREATE TYPE mood AS ENUM ('well')",
            "CREATE FUNCTION f(a pair) RETURNS INT LANGUAGE SQL AS 'SELECT 1'",
            "CREATE PROCEDURE p() LANGUAGE SQL AS 'SELECT 1'",
            "CREATE AGGREGATE total(INT) (SFUNC = int4pl, STYPE = INT)",
            "CREATE STATISTICS s ON id, t FROM t1",
            "CREATE MATERIALIZED VIEW m AS SELECT * FROM t2",
            "CREATE TABLE parts (a INT) PARTITION BY RANGE (a)",
            "CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9)",
        )
    removal = Removal(workspace, spec)
    removal.finish()
    assert removal.turns > 1, "a turn is short"
    assert_gone(removal, password)


def test_large_objects_in_another_database_go_too(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    with closing(connect(workspace, spec, password, "postgres")) as session:
        run(session, "SELECT count(lo_create(0)) FROM generate_series(1, 300)")
    removal = Removal(workspace, spec)
    removal.finish()
    assert_gone(removal, password)


# Becoming more --------------------------------------------------------------------------

#: Functions that a call from the admin login would prefer to the server's own, if it looked there.
TRAPS = {
    "pg_terminate_backend(integer)": "boolean",
    "pg_try_advisory_lock(integer)": "boolean",
    "lo_unlink(integer)": "integer",
    "set_config(text, text, boolean)": "text",
    "left(text, integer)": "text",
    "pg_blocking_pids(integer)": "integer[]",
    "current_database()": "name",
    "pg_stat_clear_snapshot()": "void",
}


@pytest.fixture
def trapped(workspace: PostgresCase) -> Iterator[Callable[[], list[Any]]]:
    """A database whose ``public`` everybody may write to, with traps; return who fell into one."""
    run_as_admin(
        workspace,
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "CREATE TABLE public.caught (trap TEXT, who TEXT)",
        "GRANT ALL ON public.caught TO PUBLIC",
    )
    for signature, result in TRAPS.items():
        run_as_admin(
            workspace,
            f"CREATE FUNCTION public.{signature} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN "
            f"INSERT INTO public.caught VALUES ('{signature}', session_user); RETURN NULL; END $$"
            if result != "void"
            else f"CREATE FUNCTION public.{signature} RETURNS void LANGUAGE sql AS "
            f"$$ INSERT INTO public.caught VALUES ('{signature}', session_user) $$",
        )
    yield lambda: run_as_admin(workspace, "SELECT trap, who FROM public.caught")
    for signature in TRAPS:
        run_as_admin(workspace, f"DROP FUNCTION public.{signature}")
    run_as_admin(
        workspace, "DROP TABLE public.caught", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    )


def use_every_verb(workspace: PostgresCase) -> None:
    spec, password = workspace.made()
    backend = workspace.backend
    assert backend.exists(spec)
    with closing(connect(workspace, spec, password)) as session:
        run(session, "SELECT lo_create(0)", "BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        backend.in_use(spec)
        backend.kill(spec, lease())
    backend.prolong(spec)
    session = hold_own_row(workspace, spec, password)
    backend.drop(spec, lease())
    assert [health.alive for health in backend.check()] == [True]
    backend.inventory(workspace.prefix, workspace.server.name)


def test_the_admin_login_runs_nothing_that_a_tenant_made(
    workspace: PostgresCase, trapped: Callable[[], list[Any]]
) -> None:
    use_every_verb(workspace)
    assert trapped() == []


def test_traps_catch_an_admin_login_whose_path_is_not_pinned(
    workspace: PostgresCase, trapped: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tuple(one for one in POSTGRESQL.settings if "search_path" not in one)
    assert settings != POSTGRESQL.settings
    monkeypatch.setattr(
        server_module, "detect", lambda version: replace(POSTGRESQL, settings=settings)
    )
    # Its connections are opened after that.
    backend = RedshiftBackend(
        workspace.backend.name, (workspace.server,), NO_LIMITS, timeout=10, connections=2
    )
    unpinned = PostgresCase(backend, workspace.type, workspace.postgres, workspace.server)
    with suppress(EngineError):
        use_every_verb(unpinned)
    backend.close()
    assert {who for _, who in trapped()} == {workspace.server.user}
