"""The contract suite runs against a running service, once per state database.

Rules that need another configuration run on a service of their own, with SQLite only.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

pytest.register_assert_rewrite("tests.contract.expectations", "tests.contract.server_look")

from devstack.mariadb import MariaDB  # noqa: E402
from devstack.valkey import Valkey  # noqa: E402
from tests.contract.long_waits import LongWaits  # noqa: E402
from tests.support.client import Client  # noqa: E402
from tests.support.servers import mysql_state_url, postgres_state_url  # noqa: E402
from tests.support.service import Service, running  # noqa: E402

ServiceMaker = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mariadb: MariaDB,
    valkey: Valkey,
) -> Iterator[Service]:
    """Two fronts, a worker and a beat, with the state in each kind of database in turn."""
    state_url = None
    if request.param == "postgresql":
        state_url = postgres_state_url(request.getfixturevalue("postgres"), "state")
    elif request.param == "mariadb":
        state_url = mysql_state_url(mariadb, "provisioning_state")
    directory = tmp_path_factory.mktemp(f"service-{request.param}")
    service = Service(
        directory,
        mariadb=mariadb,
        valkey=valkey,
        state_url=state_url,
        # Tests record jobs as if of years ago.
        environment={"JOB_RETENTION": "none"},
    )
    with running(service, fronts=2):
        yield service


@pytest.fixture(scope="session")
def make_service(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, valkey: Valkey
) -> ServiceMaker:
    """Run a service of another configuration for a block; by default it is only a front."""

    @contextmanager
    def make(
        environment: dict[str, str],
        *,
        on: MariaDB = mariadb,
        broker: Valkey = valkey,
        state_url: str | None = None,
        fronts: int = 1,
        workers: int = 0,
        beats: int = 0,
        dockers: int = 0,
    ) -> Iterator[Service]:
        service = Service(
            tmp_path_factory.mktemp("configured"),
            mariadb=on,
            valkey=broker,
            state_url=state_url,
            environment=environment,
        )
        counts = {"fronts": fronts, "workers": workers, "beats": beats, "dockers": dockers}
        with running(service, **counts):
            yield service

    return make


@pytest.fixture
def client(service: Service) -> Client:
    """A caller with a token, a project and no past of its own."""
    return service.client(service.token(project=new_project()))


@pytest.fixture
def project() -> str:
    """The id of a project that no other test uses."""
    return new_project()


_projects = itertools.count(100_001)


def new_project() -> str:
    return str(next(_projects))


# Waits of a minute ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def long_waits(make_service: ServiceMaker) -> Iterator[LongWaits]:
    """Two requests that ask for more than the longest wait; they run beside the other tests."""
    with make_service({}) as service, LongWaits(service.client()) as waits:
        yield waits


@pytest.fixture(scope="session", autouse=True)
def _start_long_waits_first(request: pytest.FixtureRequest) -> None:
    if any("long_waits" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("long_waits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that collect the long waits last, when the minute is over anyway."""
    items.sort(key=lambda item: "long_waits" in getattr(item, "fixturenames", ()))
