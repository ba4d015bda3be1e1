"""The private servers: start, verify, restart, take over, stop."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import pymysql
import pytest
import redis
from psycopg2.errors import InsufficientPrivilege
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from devstack.processes import StartFailed, processes_working_in
from devstack.server import NotOurServer, Server
from devstack.valkey import Valkey
from tests.support.deadlines import wait_until

TREE = Path(__file__).parents[2]
Kind = TypeVar("Kind", bound=Server)


def make(kind: type[Kind], directory: Path) -> Kind:
    if kind.missing():
        pytest.skip(f"{kind.name} is not installed")
    return kind(directory / "server")


@pytest.fixture(params=[MariaDB, Valkey, Postgres], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = make(request.param, tmp_path)
    yield server
    server.stop()


@pytest.fixture
def durable(server: Server) -> Server:
    """A started server with a row in a table."""
    server.start()
    if not isinstance(server, Valkey):
        run(server, "CREATE TABLE kept (a INT)")
        run(server, "INSERT INTO kept VALUES (7)")
    return server


def run(server: Server, statement: str) -> object:
    """Run a statement as the administrator; the first value of its answer, if any."""
    if isinstance(server, MariaDB):
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS d")
            cursor.execute("USE d")
            cursor.execute(statement)
            row = cursor.fetchone()
            return row[0] if row else None
    return run_on_postgres(server, statement)


def run_on_postgres(server: Server, statement: str) -> object:
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    connection.set_session(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    connection.close()
    return row[0] if row else None


def assert_content_is_there(server: Server) -> None:
    if not isinstance(server, Valkey):
        assert run(server, "SELECT a FROM kept") == 7


def served(server: Server) -> str | None:
    return server._served_directory()


def test_serves_its_own_directory_on_loopback(server: Server) -> None:
    server.start()
    assert Path(served(server) or "").resolve() == server.data.resolve()
    assert server.host == "127.0.0.1"
    assert str(server.port) in server.url


def test_stop_and_start_keep_data_port_and_password(durable: Server) -> None:
    port, password = durable.port, durable.password
    durable.stop()
    durable.start()
    assert (durable.port, durable.password) == (port, password)
    assert_content_is_there(durable)


def test_kill_and_start_keep_data_and_port(durable: Server) -> None:
    port = durable.port
    durable.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((durable.host, port), timeout=2)
    durable.start()
    assert durable.port == port
    assert_content_is_there(durable)


def test_takes_another_port_when_the_remembered_one_is_taken(durable: Server) -> None:
    port = durable.port
    durable.stop()
    with socket.create_server((durable.host, port)):
        durable.start()
        assert durable.port != port
        assert_content_is_there(durable)


def test_takes_another_port_when_somebody_listens_before_the_server_does(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_process = server._start_process
    intruders: list[socket.socket] = []

    def start_after_the_intruder() -> None:
        if not intruders:
            intruders.append(socket.create_server((server.host, server.port)))
        start_process()

    monkeypatch.setattr(server, "_start_process", start_after_the_intruder)
    server.start()
    assert server.port != intruders[0].getsockname()[1]
    assert Path(served(server) or "").resolve() == server.data.resolve()
    intruders[0].close()


def test_refuses_a_server_of_another_directory(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_served_directory", lambda: "/somewhere/else")
    with pytest.raises(NotOurServer, match="/somewhere/else"):
        server.start()
    assert not server.running


def test_paused_server_does_not_answer_until_resumed(server: Server) -> None:
    server.start()
    server.pause()
    assert served(server) is None
    server.resume()
    wait_until(lambda: served(server), what="an answer after resume")


def test_stop_leaves_no_process_and_frees_the_port(server: Server) -> None:
    server.start()
    port = server.port
    server.stop()
    assert processes_working_in(server.data, Path(server.executable).name) == []
    socket.create_server((server.host, port)).close()


def test_stop_ends_a_paused_server(server: Server) -> None:
    server.start()
    server.pause()
    server.stop()
    assert processes_working_in(server.data, Path(server.executable).name) == []


def test_lives_on_when_the_thread_that_started_it_ends(server: Server) -> None:
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    assert served(server)
    with pytest.raises(TimeoutError):
        wait_until(lambda: not server.running, timeout=0.3, what="the server ending")


def test_password_is_private(server: Server) -> None:
    server.start()
    command_line = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    assert server.password not in command_line
    assert (server.directory / "password").stat().st_mode & 0o077 == 0
    assert server.password not in server.process.log.read_text()


def test_a_second_process_may_not_use_the_directory(server: Server) -> None:
    server.start()
    with pytest.raises(StartFailed, match="another process"):
        type(server)(server.directory).start()
    assert served(server)


START_IN_ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
from devstack import processes
if {immortal}:
    processes.dying_with_parent = lambda command, death_signal="": command
from devstack import {module}
server = {module}.{name}(Path(sys.argv[1]))
server.start()
print(server.process.pid, flush=True)
time.sleep(600)
"""


def start_and_kill_the_parent(server: Server, *, immortal: bool) -> int:
    """Start the server from a process that is then killed; the server's process id."""
    kind = type(server)
    script = START_IN_ANOTHER_PROCESS.format(
        module=kind.__module__.rpartition(".")[2], name=kind.__name__, immortal=immortal
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(server.directory)], stdout=subprocess.PIPE, cwd=TREE
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        served_before = is_serving(pid, server)
        parent.kill()
    assert served_before
    return pid


def is_serving(pid: int, server: Server) -> bool:
    return pid in processes_working_in(server.data, Path(server.executable).name)


def test_dies_with_its_parent(server: Server) -> None:
    pid = start_and_kill_the_parent(server, immortal=False)
    wait_until(lambda: not is_serving(pid, server), what="the server's death")


def test_stops_a_server_left_by_a_killed_parent_and_starts_on_its_data(server: Server) -> None:
    pid = start_and_kill_the_parent(server, immortal=True)
    assert is_serving(pid, server)
    server.start()
    assert not is_serving(pid, server)
    assert Path(served(server) or "").resolve() == server.data.resolve()


def test_half_made_data_directory_is_made_anew(server: Server) -> None:
    half_made = server.directory / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "rubbish").touch()
    server.start()
    assert served(server)


def test_valkey_refuses_a_connection_without_the_password(tmp_path: Path) -> None:
    with make(Valkey, tmp_path) as server:
        client = redis.Redis(host=server.host, port=server.port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            client.ping()
        client.close()


def test_mariadb_refuses_root_without_the_password(tmp_path: Path) -> None:
    with make(MariaDB, tmp_path) as server, pytest.raises(pymysql.OperationalError, match="1045"):
        pymysql.connect(host=server.host, port=server.port, user="root", password="")


def test_mariadb_takes_more_options(tmp_path: Path) -> None:
    make(MariaDB, tmp_path)
    server = MariaDB(tmp_path / "server", extra_options=["--max-connections=17"])
    with server:
        assert run(server, "SELECT @@max_connections") == 17


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    make(MariaDB, tmp_path)
    server = MariaDB(tmp_path / "server", extra_options=["--no-such-option"])
    with pytest.raises(StartFailed, match="no-such-option"):
        server.start()
    server.stop()


def test_postgres_refuses_a_wrong_password(tmp_path: Path) -> None:
    with make(Postgres, tmp_path) as server, pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(
            host=server.host, port=server.port, user="postgres", password="x", dbname="postgres"
        )


@pytest.mark.parametrize("mode", [0o711, 0o700], ids=["open to others", "closed to others"])
@pytest.mark.parametrize("kind", [MariaDB, Postgres])
def test_a_database_server_does_not_run_as_root(
    kind: type[MariaDB] | type[Postgres], mode: int, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)
    with make(kind, tmp_path) as server:
        owner = Path(f"/proc/{server.process.pid}").stat().st_uid
        rights = Path(f"/proc/{server.process.pid}/status").read_text()
        assert served(server)
    assert owner != 0
    assert os.geteuid() in (0, owner)
    # At most CAP_DAC_READ_SEARCH, to pass directories that are closed to others.
    (effective,) = re.findall(r"^CapEff:\s*(\w+)$", rights, re.MULTILINE)
    assert int(effective, 16) & ~(1 << 2) == 0


def test_mariadb_makes_no_table_outside_of_its_directory(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    with make(MariaDB, tmp_path) as server, server.connect() as session, session.cursor() as run:
        run.execute("CREATE DATABASE d")
        for engine in ("InnoDB", "MyISAM", "Aria"):
            run.execute(
                f"CREATE TABLE d.{engine} (a INT) ENGINE={engine} DATA DIRECTORY='{outside}'"
            )
    assert list(outside.iterdir()) == []


def test_no_login_of_a_closed_database_can_fill_the_servers_table_of_locks(tmp_path: Path) -> None:
    server = make(Postgres, tmp_path)
    assert isinstance(server, Postgres)
    server.start()
    try:
        server.ensure_database("closed")
        for _ in range(2):
            server.close_to_tenants("closed")
        with server._connect("closed") as cursor:
            cursor.execute("CREATE USER tenant PASSWORD 'secret'")
        values: dict[str, Any] = {
            "host": server.host,
            "port": server.port,
            "user": "tenant",
            "password": "secret",
        }
        with closing(psycopg2.connect(**values, dbname="closed")) as tenant:
            tenant.autocommit = True
            for lock in ("pg_advisory_lock(1)", "pg_try_advisory_xact_lock_shared(1, 2)"):
                with pytest.raises(InsufficientPrivilege):
                    tenant.cursor().execute(f"SELECT {lock}")
            tenant.cursor().execute("CREATE TEMP TABLE t (a INT)")
        for database in ("postgres", "template1"):
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                psycopg2.connect(**values, dbname=database)
    finally:
        server.stop()


def test_postgres_children_end_with_a_killed_server(tmp_path: Path) -> None:
    with make(Postgres, tmp_path) as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        server.kill()
        wait_until(
            lambda: processes_working_in(server.data, "postgres") == [],
            what="the end of all postgres processes",
        )
