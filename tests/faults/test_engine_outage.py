"""The MySQL server restarts, is read-only, is gone, or hangs."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from devstack.mariadb import MariaDB
from devstack.processes import wait_until
from devstack.valkey import Valkey
from provisioning.models import Job
from tests.faults.callers import Caller, Ledger
from tests.faults.load import Load
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.client import Answer, Client
from tests.support.servers import connect_as
from tests.support.service import running

TYPES = ("sandbox", "transformations")
#: Seconds after a server's return within which callers are served: the circuit tries again
#: every three seconds.
RECOVERY = 5.0
#: Seconds within which work that was delayed by an outage is done: pauses double up to it.
RETRIES = 30.0
#: The deadline of one statement in the tests with a hung server.
TIMEOUT = 2
ADMIN, PASSWORD = "outage_admin", "outage-admin-password"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB of our own to kill."""
    if MariaDB.missing():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    server = MariaDB(tmp_path_factory.mktemp("engine"))
    server.start()
    _run(
        server,
        f"CREATE USER {ADMIN}@127.0.0.1 IDENTIFIED BY '{PASSWORD}'",
        f"GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@127.0.0.1 WITH GRANT OPTION",
        # With it, read-only mode would not concern the login.
        f"REVOKE READ_ONLY ADMIN ON *.* FROM {ADMIN}@127.0.0.1",
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def exposed(
    tmp_path_factory: pytest.TempPathFactory, engine: MariaDB, valkey: Valkey
) -> Iterator[FaultyService]:
    service = FaultyService(
        tmp_path_factory.mktemp("exposed"),
        mariadb=engine,
        valkey=valkey,
        environment={"MYSQL_URL": f"mysql://{ADMIN}:{PASSWORD}@{engine.host}:{engine.port}"},
    )
    with running(service, fronts=2):
        yield service


@pytest.fixture
def exposed_oracle(exposed: FaultyService, engine: MariaDB, ledger: Ledger) -> Oracle:
    return Oracle(exposed.installation, {"default": engine}, ledger)


def _run(server: MariaDB, *statements: str) -> None:
    with contextlib.closing(server.connect()) as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def test_a_restart_under_load_is_an_outage_and_no_more(
    exposed: FaultyService, exposed_oracle: Oracle, engine: MariaDB, ledger: Ledger
) -> None:
    load = Load(exposed, ledger)
    with load.flowing(clients=6):
        load.run_for(2)
        down = time.monotonic()
        engine.kill()
        load.run_for(1)
        engine.start()
        up = time.monotonic()
        load.run_for(RECOVERY + 2)
    assert not load.bad_outside(down, up + RECOVERY)
    assert not load.not_plain_outages()
    assert len(load.good_after(up + RECOVERY)) > 20
    exposed_oracle.assert_clean(timeout=RETRIES)


@pytest.mark.parametrize("type_", TYPES)
def test_a_read_only_server_refuses_creates_and_delays_drops(
    exposed: FaultyService,
    exposed_oracle: Oracle,
    engine: MariaDB,
    ledger: Ledger,
    type_: str,
) -> None:
    going, coming = Caller(exposed, ledger), Caller(exposed, ledger)
    body = going.create(type_)
    _run(engine, "SET GLOBAL read_only = ON")
    try:
        _assert_unavailable(exposed, coming, type_)
        job = going.drop_later(body["id"])
        assert job is not None
        wait_until(partial(_tried, exposed, job, 1), timeout=10, what="a first try")
    finally:
        _run(engine, "SET GLOBAL read_only = OFF")
    assert Caller(exposed, ledger, token=going.token).wait_for_job(job)["status"] == "success"
    ledger.deleted(body["id"])
    connect_as(coming.create(type_)["credentials"]).close()
    exposed_oracle.assert_clean(timeout=RETRIES)


def test_a_drop_accepted_before_the_server_went_away_is_done_after_its_return(
    exposed: FaultyService, exposed_oracle: Oracle, engine: MariaDB, ledger: Ledger
) -> None:
    callers = [Caller(exposed, ledger) for _ in TYPES]
    bodies = [caller.create(type_) for caller, type_ in zip(callers, TYPES, strict=True)]
    for worker in exposed.workers:
        worker.pause()
    jobs = [c.drop_later(b["id"]) for c, b in zip(callers, bodies, strict=True)]
    engine.kill()
    for worker in exposed.workers:
        worker.resume()
    for job in jobs:
        assert job is not None
        wait_until(partial(_tried, exposed, job, 2), timeout=20, what="two tries")
    _assert_unavailable(exposed, Caller(exposed, ledger), "sandbox")
    engine.start()
    for caller, job, body in zip(callers, jobs, bodies, strict=True):
        assert job is not None
        assert caller.wait_for_job(job)["status"] == "success"
        ledger.deleted(body["id"])
    exposed_oracle.assert_clean(timeout=RETRIES)


def _assert_unavailable(service: FaultyService, caller: Caller, type_: str) -> None:
    """Send a create that is refused as an outage is."""
    client = service.impatient_client(caller.token, timeout=30)
    answer = client.post("/provisioning/mysql", {"type": type_})
    assert answer.status == 503, answer
    assert answer.body["reason"] == "backend_unavailable"
    assert int(answer.headers["Retry-After"]) > 0


def _tried(service: FaultyService, job_id: int, times: int) -> bool:
    with service.installation.database.read() as session:
        return session.get_one(Job, job_id).attempts >= times


# One of two servers hangs ---------------------------------------------------------------


class Pair:
    """A service over two servers, and a credential on each."""

    def __init__(self, service: FaultyService, servers: dict[str, MariaDB], ledger: Ledger) -> None:
        self.service, self.servers = service, servers
        self.callers: dict[str, Caller] = {}
        self.bodies: dict[str, dict[str, str]] = {}
        ports = {str(server.port): name for name, server in servers.items()}
        for _ in range(10):
            caller = Caller(service, ledger)
            body = caller.create("transformations")
            name = ports[str(body["credentials"]["port"])]
            if name in self.callers:
                caller.drop(body["id"])
            self.callers.setdefault(name, caller)
            self.bodies.setdefault(name, body)
        assert set(self.callers) == set(servers)

    def read(self, name: str) -> tuple[int, float]:
        """Read the credential on a server; return the status and the seconds it took."""
        caller, body = self.callers[name], self.bodies[name]
        client = Client(self.service.port(), caller.token, timeout=30)
        start = time.monotonic()
        answer = client.get(f"/provisioning/mysql/{body['id']}")
        return answer.status, time.monotonic() - start


@pytest.fixture
def pair(
    service_directory: Path, mariadb: MariaDB, engine: MariaDB, valkey: Valkey, ledger: Ledger
) -> Iterator[Pair]:
    servers = {"steady": mariadb, "hanging": engine}
    service_directory.mkdir()
    file = service_directory / "servers.toml"
    file.write_text(
        "\n".join(
            f'[[mysql]]\nname = "{name}"\nhost = "{server.host}"\nport = {server.port}\n'
            f'user = "root"\npassword = "{server.root_password}"\n'
            for name, server in servers.items()
        )
    )
    service = FaultyService(
        service_directory,
        mariadb=mariadb,
        valkey=valkey,
        environment={
            "MYSQL_URL": "",
            "SERVERS_FILE": str(file),
            "ENGINE_TIMEOUT_SECONDS": str(TIMEOUT),
        },
    )
    with running(service):
        yield Pair(service, servers, ledger)


def test_a_hung_server_fails_at_its_deadline_and_slows_no_other(
    pair: Pair, engine: MariaDB, ledger: Ledger
) -> None:
    before = [pair.read("steady") for _ in range(60)]
    engine.pause()
    try:
        with ThreadPoolExecutor(max_workers=6) as executor:
            # Three reads fail at the deadline, the others soon after, when the circuit is open.
            waiting = [executor.submit(pair.read, "hanging") for _ in range(6)]
            during = [pair.read("steady") for _ in range(60)]
            hung = [one.result(timeout=60) for one in waiting]
    finally:
        engine.resume()
    released = time.monotonic()
    wait_until(lambda: pair.read("hanging")[0] == 200, timeout=10, what="recovery")
    assert time.monotonic() - released <= 10
    assert {status for status, _ in hung} == {503}
    assert max(seconds for _, seconds in hung) <= TIMEOUT + 1, hung
    assert {status for status, _ in during} == {200}
    calm, busy = (_almost_slowest(reads) for reads in (before, during))
    # The slack is for a machine that does other things as well.
    assert busy <= 1.2 * calm + 0.02, f"{calm:.4f} s before, {busy:.4f} s beside a hung server"
    Oracle(pair.service.installation, pair.servers, ledger).assert_clean(timeout=RETRIES)


def _almost_slowest(reads: list[tuple[int, float]]) -> float:
    """Return the ninth decile of the times."""
    return statistics.quantiles((seconds for _, seconds in reads), n=10)[-1]


@pytest.mark.parametrize("type_", TYPES)
def test_a_create_on_a_hung_server_fails_at_its_deadline(
    pair: Pair, engine: MariaDB, ledger: Ledger, type_: str
) -> None:
    """Placement does not know that the server hangs, so one of two creates meets it."""
    engine.pause()
    try:
        callers = [Caller(pair.service, ledger) for _ in range(2)]
        answers = [_timed_create(pair.service, caller, type_) for caller in callers]
    finally:
        engine.resume()
    assert sorted(answer.status for answer, _ in answers) == [201, 503]
    assert max(seconds for _, seconds in answers) <= TIMEOUT + 1
    for caller in callers:
        connect_as(caller.create(type_)["credentials"]).close()
    Oracle(pair.service.installation, pair.servers, ledger).assert_clean(timeout=RETRIES)


def _timed_create(service: FaultyService, caller: Caller, type_: str) -> tuple[Answer, float]:
    client = service.impatient_client(caller.token, timeout=60)
    start = time.monotonic()
    answer = client.post("/provisioning/mysql", {"type": type_})
    return answer, time.monotonic() - start
