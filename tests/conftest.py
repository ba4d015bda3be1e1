"""Fixtures of the whole suite, and what parallel runners share out among them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hunt import HUNT

pytest_plugins = ["tests.support.servers", "tests.support.docker_engine"]

#: Where tests need containers: those together have one Docker engine.
DOCKER = re.compile(r"tests/(images/|[a-z]+/test_\w*(docker|sandboxes)\w*\.py)")
#: The first parameter of the contract's tests: the kind of the state database.
STATE = re.compile(r"tests/contract/.*\[(sqlite|postgresql|mariadb)\b")

#: Groups of tests that mostly wait: for claims to run out, or for images to start.
LONG = re.compile(r"docker$|tests/faults/|tests/devstack/test_run")


@pytest.fixture(scope="session", autouse=True)
def _hunt_for_secrets() -> Iterator[None]:
    """Search what the whole run has written, once everything else has ended."""
    yield
    found = HUNT.find()
    assert not found, "secrets were found:\n" + "\n".join(found)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together, on one of several runners, what shares a running service or engine."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the groups that take minutes, so that no runner is left alone with one."""
    items.sort(key=lambda item: not LONG.match(group_of(item.nodeid)))


def group_of(nodeid: str) -> str:
    """Return the name of the group of a test."""
    if DOCKER.match(nodeid):
        return "docker"
    state = STATE.match(nodeid)
    return f"state in {state[1]}" if state else nodeid.partition("::")[0]
