"""A queue of jobs in each kind of state database."""

from collections.abc import Iterator

import pytest

from provisioning.state.bootstrap import prepare_state
from tests.support.servers import empty_state_url
from tests.support.waiting_jobs import Queue


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def state_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return empty_state_url(request, request.param, tmp_path_factory.mktemp("queue"))


@pytest.fixture(scope="session")
def shared_queue(state_url: str) -> Iterator[Queue]:
    queue = Queue(state_url)
    prepare_state(queue.installation.database)
    yield queue
    queue.installation.close()


@pytest.fixture
def queue(shared_queue: Queue) -> Queue:
    """An empty queue."""
    shared_queue.clear()
    return shared_queue
