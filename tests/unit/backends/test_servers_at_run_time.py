"""Servers and admin passwords that change while a process runs, without an engine."""

import time
from typing import Any

import pytest

from provisioning.backends.base import EngineUnavailable
from provisioning.backends.servers import fleet
from provisioning.backends.servers.admin_password import AdminPassword
from provisioning.backends.servers.fleet import DynamicFleet
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import MySQLServer


class DriverError(Exception):
    """The driver's own."""


class Door:
    """Lets in who has the right password, and remembers who asked."""

    def __init__(self, right: str) -> None:
        self.right = right
        self.asked: list[str] = []

    def __call__(self, password: Secret) -> str:
        self.asked.append(password.reveal())
        if password.reveal() != self.right:
            raise DriverError(password.reveal())
        return "in"

    def tried(self, password: AdminPassword, patience: float = 1.0) -> list[str]:
        """Return which passwords one login tries."""
        self.asked.clear()
        assert password.log_in(self, DriverError, patience) == "in"
        return list(self.asked)


def test_a_recorded_password_wins_and_what_worked_is_used_until_it_is_refused() -> None:
    recorded = [Secret("current"), Secret("pending")]
    password = AdminPassword(Secret("configured"), lambda: recorded)
    door = Door("current")
    assert door.tried(password) == ["current"]
    door.right = "pending"
    assert door.tried(password) == ["current", "pending"]
    assert door.tried(password) == ["pending"]
    recorded[:] = [Secret("pending"), Secret("next")]
    door.right = "next"
    assert door.tried(password) == ["pending", "next"]
    # Somebody went back to what is configured, by hand.
    door.right = "configured"
    assert door.tried(password) == ["next", "pending", "configured"]


def test_when_all_are_refused_the_first_refusal_is_told() -> None:
    password = AdminPassword(Secret("configured"), lambda: [Secret("current")])
    with pytest.raises(DriverError, match="current"):
        password.log_in(Door("other"), DriverError, 1.0)


def test_a_silent_server_is_asked_once() -> None:
    password = AdminPassword(Secret("configured"), lambda: [Secret("current")])
    calls: list[Secret] = []

    def connect(secret: Secret) -> Any:
        calls.append(secret)
        raise DriverError

    with pytest.raises(DriverError):
        password.log_in(connect, DriverError, -1.0)
    assert calls == [Secret("current")]


class Node:
    """A server of a fleet."""

    def __init__(self, config: MySQLServer) -> None:
        self.config = config
        self.closed = False

    def close(self) -> None:
        self.closed = True


def server(name: str, **options: Any) -> MySQLServer:
    return MySQLServer(name=name, host="h", user="u", password=Secret("p"), **options)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new servers each time."""
    monkeypatch.setattr(fleet, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(fleet, "UNKNOWN_SERVER_REFRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_fleet_takes_up_what_is_new_or_changed_and_keeps_the_rest() -> None:
    known: list[MySQLServer] | None = []
    fleet: DynamicFleet[MySQLServer, Node] = DynamicFleet(Node, [server("one")], lambda: known)
    one = fleet["one"]
    assert [place.server for place in fleet.placements("sandbox")] == ["one"]
    known = [server("registered-1", takes_new=False)]
    first = fleet["registered-1"]
    assert [place.server for place in fleet.placements("sandbox")] == ["one"]
    known = [server("registered-1"), server("registered-2", types=("transformations",))]
    assert [place.server for place in fleet.placements("sandbox")] == ["one", "registered-1"]
    assert fleet["registered-1"] is not first
    assert first.closed
    second = fleet["registered-2"]
    # The state does not answer: one goes on with what is known.
    known = None
    assert fleet["registered-2"] is second
    assert fleet["one"] is one
    assert not one.closed
    known = []
    with pytest.raises(EngineUnavailable):
        fleet["registered-2"]


def test_reads_of_a_known_server_do_not_ask_the_state_each() -> None:
    asked: list[float] = []

    def look() -> list[MySQLServer]:
        asked.append(time.monotonic())
        return []

    fleet: DynamicFleet[MySQLServer, Node] = DynamicFleet(Node, [server("one")], look)
    for _ in range(1000):
        assert fleet["one"].config.name == "one"
    assert len(asked) == 1
