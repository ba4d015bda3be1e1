"""Services that verify tokens at a simulated Storage API (contract section 5)."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import ServiceMaker
from tests.support.client import Client
from tests.support.service import Service
from tests.support.storage_simulator import StorageSimulator, simulated_storage

#: Seconds that the services wait for the simulator.
TIMEOUT = 1


@pytest.fixture(scope="session")
def storage() -> Iterator[StorageSimulator]:
    with simulated_storage() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def verified(storage: StorageSimulator, make_service: ServiceMaker) -> Iterator[Service]:
    """A service that verifies every request anew."""
    environment = {
        "STORAGE_API_URL": storage.url,
        "TOKEN_TIMEOUT_SECONDS": f"{TIMEOUT}s",
        "TOKEN_CACHE_SECONDS": "0",
    }
    with make_service(environment) as service:
        yield service


@pytest.fixture
def token(project: str) -> str:
    """A token that the simulator has not heard of yet."""
    return f"{project}-storage-token"


@pytest.fixture
def client(verified: Service, token: str) -> Client:
    return verified.client(token)
