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

#: Fixtures and kinds of state databases that `make check` leaves out: their servers take long.
SERVERS = {"mariadb", "postgres", "valkey", "docker_engine", "postgresql"}

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
    """Mark what needs a server, and begin with the groups that take minutes.

    Otherwise a runner would be left alone with one of these.
    """
    for item in items:
        if isinstance(item, pytest.Function) and needs_server(item):
            item.add_marker("server")
    items.sort(key=lambda item: not LONG.match(group_of(item.nodeid)))


def needs_server(item: pytest.Function) -> bool:
    """Return whether a test uses a fixture of a server, or has its kind for a parameter."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    kinds = {value for value in parameters if isinstance(value, str)}
    return bool(SERVERS & (kinds | set(item.fixturenames)))


def group_of(nodeid: str) -> str:
    """Return the name of the group of a test."""
    if DOCKER.match(nodeid):
        return "docker"
    state = STATE.match(nodeid)
    return f"state in {state[1]}" if state else nodeid.partition("::")[0]
