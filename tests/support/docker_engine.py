"""Docker engines of the tests, which keep the images from run to run."""

import os
import shutil
from collections.abc import Iterator

import pytest

from devstack import images
from devstack.docker import DockerEngine, InUse
from devstack.processes import StartFailed


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """An engine in a network of its own, with nothing but images in it."""
    if DockerEngine.missing() or images.missing():
        pytest.skip("Docker is not installed: apt-get install docker.io iptables mmdebstrap")
    if os.geteuid() != 0:
        pytest.skip("a private Docker engine needs root")
    engine = _start_free_one()
    try:
        _remove_all_but_images(engine)
        yield engine
        _remove_all_but_images(engine)
    finally:
        engine.stop()


def _start_free_one() -> DockerEngine:
    """The first engine of the cache that no other test run uses; it has the images already."""
    number = 0
    while True:
        engine = DockerEngine(images.cache_directory() / f"engine-{number}")
        try:
            engine.start()
        except InUse:
            number += 1
            continue
        except StartFailed:
            # A run that was killed may leave data that no engine starts on.
            engine.stop()
            shutil.rmtree(engine.data)
            engine.start()
        return engine


def _remove_all_but_images(engine: DockerEngine) -> None:
    client = engine.client()
    for container in client.containers.list(all=True):
        container.remove(force=True)
    client.networks.prune()
    client.volumes.prune()
    client.close()
