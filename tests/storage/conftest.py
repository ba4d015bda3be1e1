"""The storages that the conformance suite runs on."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.storage.case import Case, DirectoryCase, KeboolaCase
from tests.support.storage_simulator import StorageSimulator, simulated_storage

_numbers = count(1)

#: The directory, and the clouds with exports in so many slices; 0 is one file with a header.
CASES = ["directory", "aws-0", "aws-3", "azure-2", "gcp-2"]


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[StorageSimulator]:
    with simulated_storage() as simulator:
        yield simulator


@pytest.fixture
def simulator(running_simulator: StorageSimulator) -> StorageSimulator:
    running_simulator.forget()
    return running_simulator


@pytest.fixture
def token(simulator: StorageSimulator) -> str:
    return simulator.accept(f"572-{next(_numbers)}-storage-token", "30680", "572")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "directory":
        return DirectoryCase(tmp_path)
    provider, slices = request.param.split("-")
    simulator, token = request.getfixturevalue("simulator"), request.getfixturevalue("token")
    return KeboolaCase(simulator, token, provider, int(slices))
