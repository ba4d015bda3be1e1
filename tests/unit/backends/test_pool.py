"""Connection slots at a server, and connections that are lent while it is silent."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provisioning.backends.base import EngineBusy, EngineError, EngineUnavailable, step_of
from provisioning.backends.connections import slots
from provisioning.backends.connections.pool import AdminPool
from provisioning.backends.connections.slots import ConnectionSlots
from tests.support.deadlines import DEADLINE, ENDLESS

#: Seconds.
TIMEOUT = 2.0


@contextmanager
def full(timeout: float) -> Iterator[ConnectionSlots]:
    """Yield one slot, which another thread has taken."""
    held, over, taken = ConnectionSlots("db1", 1, timeout), threading.Event(), threading.Event()

    def hold() -> None:
        with held.take():
            taken.set()
            over.wait(ENDLESS)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(DEADLINE)
    try:
        yield held
    finally:
        over.set()
        holder.join()


def seconds_until_refused(held: ConnectionSlots, reason: str) -> float:
    start = time.monotonic()
    with pytest.raises(EngineBusy, match=reason), held.take():
        pytest.fail("there is no place")
    return time.monotonic() - start


def test_at_a_silent_server_nobody_queues() -> None:
    timeout = 10.0
    with full(timeout) as held:
        first = seconds_until_refused(held, "silent")
        assert first < timeout
        # Once the silence is known, nobody waits for it again.
        assert seconds_until_refused(held, "silent") < first / 2


def test_a_server_that_answers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine this process may be the silent one.
    monkeypatch.setattr(slots, "SILENCE_SHARE", 0.9)
    over = threading.Event()
    with full(TIMEOUT) as held:

        def answer() -> None:
            while not over.wait(TIMEOUT / 100):
                held.answered()

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            assert seconds_until_refused(held, "all connections busy") >= TIMEOUT
        finally:
            over.set()
            answering.join()


def test_a_place_that_is_given_back_goes_to_who_waits() -> None:
    held = ConnectionSlots("db1", 1, timeout=60)
    let_in = threading.Event()

    def enter() -> None:
        with held.take():
            let_in.set()

    with held.take():
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not let_in.wait(0.05)
    assert let_in.wait(DEADLINE)
    waiting.join()


class DriverError(Exception):
    """The driver's own."""


class Connection:
    """A driver's connection whose leave-taking waits for the server."""

    def __init__(self, answers: threading.Event) -> None:
        self._answers = answers

    def close(self) -> None:
        self._answers.wait(ENDLESS)

    def rollback(self) -> None:
        """Nothing is open."""


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """Set when the server answers, as it does in the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pool(answers: threading.Event) -> AdminPool:
    return AdminPool(
        "db1",
        connect=lambda: Connection(answers),
        ping=lambda _: None,
        translate=lambda problem: EngineUnavailable(str(problem)),
        driver_error=DriverError,
        size=2,
        timeout=DEADLINE,
    )


def fail(pool: AdminPool, error: EngineError) -> None:
    with pool.lend():
        raise error


def test_a_silent_server_does_not_keep_callers_by_its_connections_end(pool: AdminPool) -> None:
    start = time.monotonic()
    with pytest.raises(EngineUnavailable, match="time is over"):
        fail(pool, EngineUnavailable("time is over"))
    assert time.monotonic() - start < DEADLINE / 2


@pytest.mark.parametrize(
    ("sql", "step"),
    [
        ("CREATE USER \"abcd_user\" PASSWORD 'secret'", "CREATE USER"),
        ('GRANT "abcd_user" TO CURRENT_USER', "GRANT"),
        ("GRANT ALL PRIVILEGES ON `abcd\\_db`.* TO `abcd_user`@`%`", "GRANT ALL"),
        ("SELECT GET_LOCK(%s, 0)", "SELECT GET_LOCK"),
        ("SELECT pg_terminate_backend(%s)", "SELECT"),
    ],
)
def test_a_step_is_named_without_names_and_values(sql: str, step: str) -> None:
    assert step_of(sql) == step
