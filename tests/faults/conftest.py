"""Fixtures of the fault tests: one service that most of them share, and its oracle."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.mariadb import MariaDB
from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.service import running

NewOracle = Callable[[FaultyService], Oracle]


@pytest.fixture(scope="session")
def shared_service(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, valkey: Valkey
) -> Iterator[FaultyService]:
    """Two fronts, two workers and a beat for tests that leave all of them alive."""
    directory = tmp_path_factory.mktemp("faults")
    service = FaultyService(directory, mariadb=mariadb, valkey=valkey)
    with running(service, fronts=2, workers=2):
        yield service


@pytest.fixture
def service(shared_service: FaultyService) -> Iterator[FaultyService]:
    """The shared service, with nothing armed before and after."""
    yield shared_service
    for points in shared_service.points.values():
        points.disarm()


@pytest.fixture
def ledger() -> Ledger:
    """What the test's callers were promised."""
    return Ledger()


@pytest.fixture
def oracle(service: FaultyService, mariadb: MariaDB, ledger: Ledger) -> Oracle:
    """The judge of the shared service."""
    return Oracle(service.installation, {"default": mariadb}, ledger)


@pytest.fixture
def caller(service: FaultyService, ledger: Ledger) -> Caller:
    """A client of the shared service with a token of its own."""
    return Caller(service, ledger)


@pytest.fixture
def service_directory(tmp_path: Path) -> Path:
    """Where a test's own service keeps its state and logs."""
    return tmp_path / "service"
