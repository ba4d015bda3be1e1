"""The circuit breaker of a server and the shared snapshot of its sessions."""

import threading
from types import SimpleNamespace

import pytest

from provisioning.backends.base import EngineBusy, EngineUnavailable
from provisioning.backends.connections import circuit_breaker, sessions
from provisioning.backends.connections.circuit_breaker import CircuitBreaker
from provisioning.backends.connections.sessions import OpenSessions, SessionCache
from tests.support.deadlines import DEADLINE


def fail(guard: CircuitBreaker, error: Exception) -> None:
    with guard.guard():
        raise error


def silence(guard: CircuitBreaker) -> None:
    for _ in range(circuit_breaker.FAILURES_TO_OPEN):
        with pytest.raises(EngineUnavailable, match="no answer"):
            fail(guard, EngineUnavailable("no answer"))


def require_open(guard: CircuitBreaker) -> None:
    with pytest.raises(EngineUnavailable, match="did not answer lately"), guard.guard():
        pytest.fail("the block must not run")


def test_a_silent_server_is_refused_at_once_after_three_failures() -> None:
    guard = CircuitBreaker("db1")
    silence(guard)
    require_open(guard)


def test_a_busy_server_is_not_silent() -> None:
    guard = CircuitBreaker("db1")
    for _ in range(10):
        with pytest.raises(EngineBusy):
            fail(guard, EngineBusy("locked"))
    with guard.guard():
        pass


def test_a_trial_after_the_pause_closes_the_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(circuit_breaker, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    guard = CircuitBreaker("db1")
    silence(guard)
    require_open(guard)
    clock[0] += circuit_breaker.OPEN_SECONDS
    with guard.guard():
        # Others wait for what the trial shows.
        require_open(guard)
    with guard.guard():
        pass


class Server:
    """A server whose sessions a test sets, and that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.connections = 7
        self.sessions: OpenSessions = {}

    def take(self) -> OpenSessions:
        self.asked += 1
        return self.sessions

    def connect(self, user: str, database: str | None) -> None:
        self.connections += 1
        self.sessions = {user: frozenset({database})}

    def picture(self) -> SessionCache:
        return SessionCache(self.take, lambda: self.connections)


def test_a_new_connection_is_seen_at_once_whatever_was_read_before() -> None:
    server = Server()
    picture = server.picture()
    for _ in range(100):
        assert not picture.databases_of("ada")
    server.connect("ada", "db")
    assert picture.databases_of("ada") == {"db"}


def test_a_session_may_have_moved_to_the_database_asked_for() -> None:
    server = Server()
    picture = server.picture()
    server.connect("ada", "first")
    assert picture.databases_of("ada", "second") == {"first"}
    server.sessions = {"ada": frozenset({"second"})}
    assert picture.databases_of("ada", "second") == {"second"}


def test_while_nobody_connects_the_server_is_asked_once_a_second() -> None:
    server = Server()
    server.connect("ada", "db")
    picture = server.picture()
    for _ in range(500):
        picture.databases_of("ada")
        picture.databases_of("bob")
    assert server.asked == 1


def test_an_old_picture_shows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.connect("ada", "db")
    picture = server.picture()
    assert picture.databases_of("ada")
    server.sessions = {}
    monkeypatch.setattr(sessions, "SNAPSHOT_SECONDS", 0.0)
    assert not picture.databases_of("ada")


def test_who_waited_for_a_picture_that_failed_does_not_ask_anew() -> None:
    taken, go = threading.Event(), threading.Event()
    asked, failures = [], []

    def take() -> OpenSessions:
        asked.append(1)
        taken.set()
        go.wait(DEADLINE)
        raise EngineUnavailable("no answer")

    picture = SessionCache(take, lambda: 7)

    def read() -> None:
        with pytest.raises(EngineUnavailable, match="no answer") as failure:
            picture.databases_of("ada")
        failures.append(failure)

    threads = [threading.Thread(target=read) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert taken.wait(DEADLINE)
    go.set()
    for thread in threads:
        thread.join()
    assert len(failures) == 20
    # Some may have come only after the failure.
    assert len(asked) < 10


def test_readers_at_one_moment_share_a_picture() -> None:
    taken, go = threading.Event(), threading.Event()
    asked = []

    def take() -> OpenSessions:
        asked.append(1)
        taken.set()
        go.wait(DEADLINE)
        return {"ada": frozenset({None})}

    picture = SessionCache(take, lambda: 7)
    threads = [threading.Thread(target=picture.databases_of, args=("ada",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert taken.wait(DEADLINE)
    go.set()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
