"""Docker engines of the tests, which keep the images from run to run."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from devstack import images
from devstack.docker import DockerEngine
from tests.support.deadlines import LONG_DEADLINE


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """An engine in a network of its own, with nothing but images in it: the stub at least."""
    if DockerEngine.missing() or images.missing():
        pytest.skip("Docker is not installed: apt-get install docker.io iptables mmdebstrap")
    if os.geteuid() != 0:
        pytest.skip("a private Docker engine needs root")
    engine = images.start_engine()
    try:
        remove_all_but_images(engine)
        # An engine that nobody has used before has none, and each test may be its first.
        with closing(engine.client(timeout=LONG_DEADLINE)) as client:
            images.provide(client, images.STUB)
        yield engine
        remove_all_but_images(engine)
    finally:
        engine.stop()


def remove_all_but_images(engine: DockerEngine) -> None:
    """Start anew: several installations have credentials of the same numbers."""
    client = engine.client()
    for container in client.containers.list(all=True):
        container.remove(force=True)
    client.networks.prune()
    client.volumes.prune()
    client.close()
