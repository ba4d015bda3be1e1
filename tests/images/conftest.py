"""Images made once for all tests of a run."""

import pytest

from devstack import images
from devstack.docker import DockerEngine


@pytest.fixture(scope="session")
def engine(docker_engine: DockerEngine) -> DockerEngine:
    """An engine that has all images."""
    client = docker_engine.client(timeout=600)
    images.provide(client, *images.ALL)
    client.close()
    return docker_engine
