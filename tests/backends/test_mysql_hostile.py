"""What a tenant can hold with the rights we give it, and that it is out within seconds."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

import pymysql
import pytest

from devstack.mariadb import MariaDB
from provisioning.backends.base import EngineBusy, RemovalUnfinished, Spec
from provisioning.backends.mysql import MySQLBackend
from provisioning.backends.mysql.locks import Locks
from provisioning.configuration.secrets import Secret
from tests.backends.case import NO_LIMITS, lease, lock_secret
from tests.backends.conftest import MySQLCase, make_mysql_backend, mysql_server
from tests.support.deadlines import ENDLESS, bar, wait_until

#: Seconds in which access must have ended.
OUT = bar(10)
#: Clients of one tenant that come back in a loop.
CLIENTS, PROCESSES = 30, 3
XA_NAME = "0x6f6e65"
#: Less than the waits for eight tables.
SHORT_TIMEOUT = 10

Session: TypeAlias = "pymysql.connections.Connection[Any]"


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server that runs events, which no other test meets."""
    server = MariaDB(
        tmp_path_factory.mktemp("eventful-mariadb"), extra_options=("--event-scheduler=ON",)
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def backend(eventful: MariaDB) -> Iterator[MySQLBackend]:
    backend = make_mysql_backend(mysql_server(eventful), connections=4)
    yield backend
    backend.close()


@pytest.fixture(params=["transformations", "sandbox"])
def case(request: pytest.FixtureRequest, backend: MySQLBackend, eventful: MariaDB) -> MySQLCase:
    return MySQLCase(backend, request.param, eventful)


@pytest.fixture
def plain(backend: MySQLBackend, eventful: MariaDB) -> MySQLCase:
    return MySQLCase(backend, "transformations", eventful)


@pytest.fixture
def sandbox(backend: MySQLBackend, eventful: MariaDB) -> MySQLCase:
    return MySQLCase(backend, "sandbox", eventful)


def run(session: Session, *statements: str) -> Any:
    """Run statements of a tenant; return the rows of the last."""
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def run_aside(session: Session, statement: str) -> None:
    """Run a statement that does not end by itself."""

    def attempt() -> None:
        with suppress(Exception):
            run(session, statement)

    threading.Thread(target=attempt, daemon=True).start()


class Stopped(Exception):
    """The drop was stopped where only the access had ended."""


def end_access(case: MySQLCase, spec: Spec) -> None:
    """Run the part of a drop that ends access."""

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        case.backend.drop(spec, lease(), stop)


def assert_out(case: MySQLCase, spec: Spec, password: Secret, sessions: list[Session]) -> None:
    """End access, and look that no login works and no session goes on."""
    start = time.monotonic()
    end_access(case, spec)
    assert time.monotonic() - start < OUT
    with pytest.raises(pymysql.Error):
        case.connect(spec, password)
    for session in sessions:
        with pytest.raises((pymysql.Error, OSError)):
            run(session, "SELECT 1")
    # A login that is being refused is listed for a moment; one that was let in would stay.
    remaining = set(case.login_remains(spec))
    wait_until(
        lambda: not remaining.intersection(case.login_remains(spec)), what="only refused logins"
    )


def drop(case: MySQLCase, spec: Spec) -> None:
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


HOLDS: dict[str, tuple[str, ...]] = {
    "transaction": ("BEGIN", "INSERT INTO t VALUES (1)"),
    "metadata lock": ("BEGIN", "SELECT * FROM t"),
    "table lock": ("LOCK TABLES t WRITE",),
    "backup lock": ("BACKUP LOCK t",),
    "handler": ("HANDLER t OPEN",),
    "named lock": ("SELECT GET_LOCK(DATABASE(), 0)", "SELECT GET_LOCK(CURRENT_USER(), 0)"),
    "unprepared XA": ("XA START 'one'", "INSERT INTO t VALUES (1)", "XA END 'one'"),
    "prepared XA": (
        "XA START 'one'",
        "INSERT INTO t VALUES (1)",
        "XA END 'one'",
        "XA PREPARE 'one'",
    ),
    "views, events, triggers and routines": (
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO t VALUES (2)",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE SEQUENCE s",
    ),
}


@pytest.mark.parametrize("held", HOLDS)
def test_what_a_session_holds_keeps_nothing(case: MySQLCase, held: str) -> None:
    spec, password = case.made()
    with case.session(spec, password) as session:
        run(session, "CREATE TABLE t (a INT) ENGINE=InnoDB", *HOLDS[held])
        assert_out(case, spec, password, [session])
        drop(case, spec)
    assert case.admin("XA RECOVER") == []


def test_long_statements_end(case: MySQLCase) -> None:
    spec, password = case.made()
    with case.session(spec, password) as session:
        run_aside(session, f"SELECT SLEEP({ENDLESS})")
        wait_until(lambda: case.runs_long(spec), what="the statement")
        assert_out(case, spec, password, [])
        drop(case, spec)


def make_events(session: Session) -> None:
    """Let new sessions of the login start all the time, faster than they can be ended."""
    run(session, "CREATE TABLE looping (a INT)")
    for number in range(150):
        run(
            session,
            f"CREATE EVENT e{number} ON SCHEDULE EVERY 1 SECOND DO BEGIN "
            "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; "
            "INSERT INTO looping VALUES (1); SELECT SLEEP(5) INTO @x; END",
        )


def test_events_without_end_start_no_more_sessions(plain: MySQLCase) -> None:
    """A locked account's events would."""
    spec, password = plain.made()
    with plain.session(spec, password) as session:
        make_events(session)
        wait_until(lambda: len(plain.login_remains(spec)) > 100, what="the events")
        assert_out(plain, spec, password, [session])
    drop(plain, spec)


def reconnect(*where: Any) -> None:
    """Come back as soon as one is thrown out, as some clients at once; never returns."""

    def one_client() -> None:
        host, port, user, password, database = where
        while True:
            with suppress(Exception):
                session = pymysql.connect(
                    host=host, port=port, user=user, password=password, database=database
                )
                run(session, f"SELECT SLEEP({ENDLESS})")
            # The clients share the machine with the server.
            time.sleep(0.005)

    for _ in range(CLIENTS // PROCESSES):
        threading.Thread(target=one_client).start()


@contextmanager
def reconnecting(case: MySQLCase, spec: Spec, password: Secret) -> Iterator[None]:
    """Let many clients come back all the time."""
    server = case.mariadb
    where = (server.host, server.port, spec.user_name, password.reveal(), spec.object_name)
    with ExitStack() as stack:
        for _ in range(PROCESSES):
            context = multiprocessing.get_context("spawn")
            clients = context.Process(target=reconnect, args=where, daemon=True)
            clients.start()
            stack.callback(clients.join)
            stack.callback(clients.kill)
        wait_until(lambda: len(case.login_remains(spec)) > CLIENTS, what="the clients")
        yield


def test_clients_that_reconnect_in_a_loop_are_out(case: MySQLCase) -> None:
    spec, password = case.made()
    with reconnecting(case, spec, password):
        assert_out(case, spec, password, [])
        drop(case, spec)


# A login over several databases ----------------------------------------------------------


def two_sandboxes(case: MySQLCase) -> tuple[Spec, Spec, Secret]:
    first, password = case.made(person="4")
    second = case.spec(person="4")
    case.backend.create(second, password, lease())
    return first, second, password


@pytest.fixture
def sandboxes(sandbox: MySQLCase) -> Iterator[tuple[Spec, Spec, Secret]]:
    """Two sandboxes of a person; the test drops the first."""
    first, second, password = two_sandboxes(sandbox)
    yield first, second, password
    sandbox.backend.drop(second, lease())


def test_sessions_in_it_end(sandbox: MySQLCase, sandboxes: tuple[Spec, Spec, Secret]) -> None:
    """A session keeps its rights on the database that it is in, whatever is revoked."""
    first, second, password = sandboxes
    with sandbox.session(first, password) as here, sandbox.session(second, password) as there:
        end_access(sandbox, first)
        with pytest.raises(pymysql.Error):
            run(here, "CREATE TABLE t (a INT)")
        run(there, "SELECT 1")
    drop(sandbox, first)


@pytest.mark.parametrize("hold", ["HANDLER t OPEN", "LOCK TABLES t READ"])
def test_an_opened_table_is_not_read_from_another_sandbox(
    sandbox: MySQLCase, sandboxes: tuple[Spec, Spec, Secret], hold: str
) -> None:
    first, second, password = sandboxes
    with sandbox.session(first, password) as session:
        run(session, "CREATE TABLE t (a INT)", "INSERT INTO t VALUES (42)", hold)
        run(session, f"USE `{second.object_name}`")
        end_access(sandbox, first)
        with pytest.raises(pymysql.Error):
            run(session, "HANDLER t READ FIRST")
    with pytest.raises(pymysql.Error):
        sandbox.connect(first, password)
    with sandbox.session(second, password) as session:
        run(session, "SELECT 1")
    drop(sandbox, first)


@pytest.mark.parametrize("hold", [("BEGIN", "SELECT * FROM t"), ("BACKUP LOCK t",)])
def test_sessions_of_another_sandbox_do_not_keep_one_from_going(
    sandbox: MySQLCase, sandboxes: tuple[Spec, Spec, Secret], hold: tuple[str, ...]
) -> None:
    """All sessions of the login are ended once, and those that come back are not waited for."""
    first, second, password = sandboxes
    with sandbox.session(second, password) as session:
        make_events(session)
        wait_until(lambda: len(sandbox.login_remains(first)) > 100, what="the events")
    with sandbox.session(first, password) as session:
        run(session, "CREATE TABLE t (a INT)", *hold, f"USE `{second.object_name}`")
        start = time.monotonic()
        end_access(sandbox, first)
        drop(sandbox, first)
        assert time.monotonic() - start < OUT
        assert sandbox.backend.kill(second, lease()) > 1


def test_tables_that_another_sandbox_refers_to_go(
    sandbox: MySQLCase, sandboxes: tuple[Spec, Spec, Secret]
) -> None:
    first, second, password = sandboxes
    with sandbox.session(second, password) as session:
        run(
            session,
            f"CREATE TABLE `{first.object_name}`.parent (id INT PRIMARY KEY)",
            f"CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES `{first.object_name}`.parent"
            " (id))",
        )
        drop(sandbox, first)
        run(session, "DROP TABLE child")


# Tidying --------------------------------------------------------------------------------


def test_many_tables_go_in_turns(plain: MySQLCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioning.backends.mysql.removal.TURN_SECONDS", 0.05)
    spec, password = plain.made()
    with plain.session(spec, password) as session:
        for number in range(150):
            run(session, f"CREATE TABLE `t``{number} ž` (a INT)")
        run(session, "CREATE SEQUENCE s", "CREATE VIEW v AS SELECT * FROM `t``1 ž`")
    left = [count_tables(plain, spec)]
    with pytest.raises(RemovalUnfinished, match="more tables to remove"):
        plain.backend.drop(spec, lease())
    while True:
        left.append(count_tables(plain, spec))
        assert left[-1] < left[-2]
        with suppress(RemovalUnfinished):
            drop(plain, spec)
            break


def count_tables(case: MySQLCase, spec: Spec) -> int:
    ((tables,),) = case.admin(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s", spec.object_name
    )
    return int(tables)


def prepare(session: Session, name: str, table: str = "t") -> None:
    """Prepare a transaction for a two-phase commit; it stays when the session ends."""
    run(
        session,
        f"CREATE TABLE IF NOT EXISTS {table} (a INT) ENGINE=InnoDB",
        f"XA START {name}",
        f"INSERT INTO {table} VALUES (1)",
        f"XA END {name}",
        f"XA PREPARE {name}",
    )


def test_several_prepared_transactions_are_rolled_back(case: MySQLCase) -> None:
    spec, password = case.made()
    for number, table in enumerate(("t", "t", "u"), 1):
        with case.session(spec, password) as session:
            prepare(session, f"'x', 'part{number}', {number}", table)
    drop(case, spec)
    assert case.admin("XA RECOVER") == []


def test_a_prepared_transaction_over_many_tables_is_rolled_back(eventful: MariaDB) -> None:
    """A statement waits for each of the tables; all together must not outlast the time-out."""
    backend = MySQLBackend(
        (mysql_server(eventful),), NO_LIMITS, SHORT_TIMEOUT, 2, lock_secret=lock_secret
    )
    plain = MySQLCase(backend, "transformations", eventful)
    spec, password = plain.made()
    with plain.session(spec, password) as session:
        tables = [f"t{number}" for number in range(8)]
        run(session, *(f"CREATE TABLE {table} (a INT) ENGINE=InnoDB" for table in tables))
        run(session, "XA START 'one'", *(f"INSERT INTO {table} VALUES (1)" for table in tables))
        run(session, "XA END 'one'", "XA PREPARE 'one'")
    drop(plain, spec)


def test_others_prepared_transactions_stay_and_are_named(plain: MySQLCase) -> None:
    """The server does not tell which name belongs to which tenant."""
    ours, password = plain.made()
    with plain.session(ours, password) as session:
        prepare(session, "'one'")
    theirs, their_password = plain.made()
    with plain.session(theirs, their_password) as session:
        prepare(session, "'two'")
    with pytest.raises(EngineBusy, match=XA_NAME) as busy:
        plain.backend.drop(ours, lease())
    assert "0x74776f" in str(busy.value)
    assert len(plain.admin("XA RECOVER")) == 2
    plain.admin(f"XA ROLLBACK {XA_NAME}")
    drop(plain, ours)
    assert len(plain.admin("XA RECOVER")) == 1
    drop(plain, theirs)


@pytest.mark.parametrize(
    "hold", ["LOCK TABLES `{0}`.t READ", "BEGIN; INSERT INTO `{0}`.t VALUES (1)"]
)
def test_a_session_of_others_is_named(case: MySQLCase, hold: str) -> None:
    spec, password = case.made()
    with case.session(spec, password) as session:
        run(session, "CREATE TABLE t (a INT) ENGINE=InnoDB")
    with case.mariadb.connect() as other:
        run(other, f"USE `{spec.object_name}`", *hold.format(spec.object_name).split("; "))
        ((number,),) = run(other, "SELECT CONNECTION_ID()")
        with pytest.raises(EngineBusy, match=f"session {number} of root"):
            case.backend.drop(spec, lease())
        assert case.login_remains(spec) == []
    drop(case, spec)


def test_a_transaction_that_rolls_back_for_long_is_out_at_once(
    plain: MySQLCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.backends.mysql.sessions.SESSIONS_PATIENCE", 1.0)
    monkeypatch.setattr("provisioning.backends.mysql.sessions.ROLLBACK_PATIENCE", 0.2)
    spec, password = plain.made()
    with plain.session(spec, password) as session:
        run(
            session,
            "CREATE TABLE t (a INT, b CHAR(200)) ENGINE=InnoDB",
            "BEGIN",
            "INSERT INTO t SELECT seq, 'x' FROM seq_1_to_1000000",
        )
        start = time.monotonic()
        end_access(plain, spec)
        assert time.monotonic() - start < OUT
        with pytest.raises(pymysql.Error):
            run(session, "SELECT 1")
    while True:
        try:
            drop(plain, spec)
            break
        except EngineBusy as busy:
            assert "of " + spec.user_name in str(busy)


# The service's own locks ------------------------------------------------------------------


def test_names_of_locks_tell_nothing() -> None:
    names = {Locks(lock_secret).name("t_sand_1"), Locks(lambda: Secret("x")).name("t_sand_1")}
    assert len(names) == 2
    assert not [name for name in names if "sand" in name or len(name) > 64]


def test_a_tenant_that_holds_a_lock_of_ours_stops_nothing(case: MySQLCase) -> None:
    other, its_password = case.made()
    spec = case.spec(person="4")
    locks = Locks(lock_secret)
    with case.session(other, its_password) as session:
        for name in (spec.object_name, f"login {spec.user_name}"):
            run(session, f"SELECT GET_LOCK('{locks.name(name)}', 0)")
        case.backend.create(spec, its_password, lease())
        drop(case, spec)
        # Nor is it thrown out for it.
        run(session, "SELECT 1")
    drop(case, other)
