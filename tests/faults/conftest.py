"""Fixtures of the fault tests: the engines, one service that most tests share, and its oracle."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from devstack.snowflake import SimulatedSnowflake
from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.engines.postgres import PostgresEngine, RedshiftEngine
from tests.faults.engines.snowflake import CutOffSnowflake, SnowflakeEngine
from tests.faults.oracle import Oracle
from tests.faults.record import PROPERTY, Record
from tests.faults.sandboxes import Judge, SandboxService, environment_of
from tests.faults.stack import FaultyService
from tests.support.deadlines import TEST_DEADLINE
from tests.support.service import running

BACKENDS = ("mysql", "postgresql", "redshift-workspace", "snowflake")
#: The deadline of one statement in the tests with engines that break.
TIMEOUT = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests the time that kills and outages take on a slow machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_DEADLINE))


@contextmanager
def started(*engines: Engine) -> Iterator[dict[str, Engine]]:
    """Run engines for a block, by backend; skip the test when a server is not installed."""
    for engine in engines:
        if engine.server.missing():
            pytest.skip(f"the server of {engine.backend} is not installed")
    try:
        with ThreadPoolExecutor(max_workers=len(engines)) as executor:
            list(executor.map(lambda engine: engine.start(), engines))
        yield {engine.backend: engine for engine in engines}
    finally:
        for engine in engines:
            engine.stop()


# Engines that nobody breaks -------------------------------------------------------------


@pytest.fixture(scope="session")
def mysql(mariadb: MariaDB) -> MySQLEngine:
    engine = MySQLEngine(mariadb)
    engine.prepare()
    return engine


@pytest.fixture(scope="session")
def postgresql(postgres: Postgres) -> PostgresEngine:
    engine = PostgresEngine(postgres)
    engine.prepare()
    return engine


@pytest.fixture(scope="session")
def redshift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """On a server of its own: logins belong to a whole server, whatever the database."""
    with started(RedshiftEngine(Postgres(tmp_path_factory.mktemp("redshift")))) as engines:
        yield engines["redshift-workspace"]


@pytest.fixture(scope="session")
def snowflake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    server = SimulatedSnowflake(tmp_path_factory.mktemp("snowflake"))
    with started(SnowflakeEngine(server)) as engines:
        yield engines["snowflake"]


@pytest.fixture(scope="session")
def engines(
    mysql: Engine, postgresql: Engine, redshift: Engine, snowflake: Engine
) -> dict[str, Engine]:
    """One of each, by backend."""
    return {engine.backend: engine for engine in (mysql, postgresql, redshift, snowflake)}


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """One of each again, by backend, to break them."""
    with started(
        MySQLEngine(MariaDB(tmp_path_factory.mktemp("mysql"))),
        PostgresEngine(Postgres(tmp_path_factory.mktemp("postgresql"))),
        RedshiftEngine(Postgres(tmp_path_factory.mktemp("redshift"))),
        CutOffSnowflake(SimulatedSnowflake(tmp_path_factory.mktemp("snowflake"))),
    ) as engines:
        yield engines


# Services -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_service(
    tmp_path_factory: pytest.TempPathFactory, mysql: Engine, valkey: Valkey
) -> Iterator[FaultyService]:
    """Two fronts, two workers and a beat for tests that leave all of them alive."""
    service = FaultyService(tmp_path_factory.mktemp("faults"), [mysql], valkey=valkey)
    with running(service, fronts=2, workers=2):
        yield service


@pytest.fixture
def service(shared_service: FaultyService) -> Iterator[FaultyService]:
    """The shared service, with nothing armed before and after."""
    yield shared_service
    for points in shared_service.points.values():
        points.disarm()


@pytest.fixture(scope="session")
def mixed_service(
    tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Engine], valkey: Valkey
) -> Iterator[FaultyService]:
    """A front, a worker and a beat with all backends at once, for tests that leave them alive."""
    service = FaultyService(tmp_path_factory.mktemp("mixed"), list(engines.values()), valkey=valkey)
    with running(service):
        yield service


@pytest.fixture(scope="session")
def exposed(
    tmp_path_factory: pytest.TempPathFactory, breakable: dict[str, Engine], valkey: Valkey
) -> Iterator[FaultyService]:
    """A service whose engines are broken, with short deadlines."""
    service = FaultyService(
        tmp_path_factory.mktemp("exposed"),
        list(breakable.values()),
        valkey=valkey,
        environment={"ENGINE_TIMEOUT_SECONDS": str(TIMEOUT)},
    )
    with running(service, fronts=2, workers=2):
        yield service


@pytest.fixture(scope="package")
def sandbox_service(
    tmp_path_factory: pytest.TempPathFactory,
    mariadb: MariaDB,
    valkey: Valkey,
    docker_engine: DockerEngine,
) -> Iterator[SandboxService]:
    """A service with three workers of sandboxes to kill."""
    service = SandboxService(
        tmp_path_factory.mktemp("sandboxes"),
        mariadb=mariadb,
        valkey=valkey,
        environment=environment_of(docker_engine),
    )
    with running(service, dockers=3):
        yield service


@pytest.fixture
def judge(
    sandbox_service: SandboxService, docker_engine: DockerEngine, chaos_row: Record
) -> Iterator[Judge]:
    """The judge of a test that starts with three workers and leaves nothing armed."""
    sandbox_service.revive()
    yield Judge(sandbox_service, docker_engine, chaos_row)
    sandbox_service.points.disarm()


@pytest.fixture(autouse=True)
def chaos_row(request: pytest.FixtureRequest) -> Iterator[Record]:
    """What the test did and found; its report carries it to `make chaos`."""
    record = Record()
    yield record
    if mark := request.node.get_closest_marker("fault"):
        request.node.user_properties.append((PROPERTY, {**mark.kwargs, **asdict(record)}))


@pytest.fixture
def ledger(chaos_row: Record) -> Ledger:
    """What the test's callers were promised."""
    return Ledger(chaos_row)


@pytest.fixture
def oracle(service: FaultyService, ledger: Ledger) -> Oracle:
    """The judge of the shared service."""
    return Oracle(service, ledger)


@pytest.fixture
def mixed_oracle(mixed_service: FaultyService, ledger: Ledger) -> Oracle:
    """The judge of the service with all backends."""
    return Oracle(mixed_service, ledger)


@pytest.fixture
def caller(service: FaultyService, ledger: Ledger) -> Caller:
    """A client of the shared service with a token of its own."""
    return Caller(service, ledger)


@pytest.fixture
def service_directory(tmp_path: Path) -> Path:
    """Where a test's own service keeps its state and logs."""
    return tmp_path / "service"
