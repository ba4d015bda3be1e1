"""Fixtures of the whole suite."""

import pytest

pytest_plugins = ["tests.support.servers", "tests.support.docker_engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, on one of several parallel runners, what shares a running service.

    The contract's tests over one state database share theirs; elsewhere it is a file's.
    """
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        group = f"state in {parameters['service']}" if "service" in parameters else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
