"""An extend in the very moment of the expiry: it is granted and kept, or refused and done with.

A granted extend is a promise until the end that it answers; nothing may retire the credential
before, and the sweep retires it once, soon after. A refused one means that it goes.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, func, insert, select, update

from provisioning import errors
from provisioning.access.tokens import Caller as Author
from provisioning.access.tokens import Principal
from provisioning.configuration import config
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.credentials import changes as domain
from provisioning.installation import Installation, build_installation
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, record_extension
from provisioning.state.models import Credentials, Event, Job
from tests.faults.callers import Caller, Ledger
from tests.faults.oracle import Oracle
from tests.faults.rows import wait_dropped
from tests.faults.stack import FaultyService
from tests.faults.sweeping import (
    Sweep,
    stand_in,
    sweep_and_remove,
    sweep_carelessly,
    sweeping,
)
from tests.support.deadlines import TEST_DEADLINE, bar, wait_until
from tests.support.servers import empty_state_url

pytestmark = pytest.mark.fault(row="F13")

#: Credentials that are extended in their last moment, in each kind of state database;
#: `CHAOS_ROUNDS=10000` takes minutes.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "100"))
#: More of them are worth a third kind of state database.
STATES = ("sqlite", "postgresql", "mariadb")[: 3 if ROUNDS >= 1000 else 2]
#: Rounds with requests over HTTP, and with databases that are there or not.
REAL_ROUNDS = max(ROUNDS // 20, 12)
#: Rounds of each guard. Their extends lock the row in good time, and commit after its end.
GUARD_ROUNDS, GUARD_AIM, DAWDLE = 12, 0.2, 0.4
#: Clients that extend at once, each one credential after the other.
CLIENTS = 6
#: Seconds before the end at which a client's first extend is sent, and how much later the next
#: one is after a granted extend, or earlier after a refused one: twice as much with each that
#: ends as the one before. That keeps to the moment at which it turns, however slow the machine is.
AIM, STEP = 0.03, 0.003
#: Seconds that a client has in hand from setting the end until its extend.
LEAD = 0.02
#: Seconds after its end within which a credential is retired by somebody. Promises end with
#: whole seconds, and so by hundreds.
ENDED = bar(20 + ROUNDS * 0.05)
AUTHOR = Author(Principal("1", "race", "70", "Race"), Secret("unused"))


@dataclass
class Race:
    """What the extends of all rounds were told, and what became of their credentials."""

    #: The promised end by credential, in milliseconds.
    granted: dict[int, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

    def wrongs(self, installation: Installation) -> list[str]:
        """Return in words what was promised and not kept, once all is over."""
        with installation.database.read() as session:
            states = {row.id: row.state for row in session.execute(_states())}
            ends: dict[int, list[int]] = {}
            for row in session.execute(_expirations()):
                ends.setdefault(row.credentials_id, []).append(row.time)
            jobs = {row[0]: row[1] for row in session.execute(_jobs_by_credentials())}
        wrongs = []
        for number, state in sorted(states.items()):
            promise, times = self.granted.get(number), ends.get(number, [])
            if promise is not None and any(time < promise for time in times):
                wrongs.append(f"{number} was extended to {promise} and expired at {times}")
            if promise is not None and any(time > promise + 1000 * ENDED for time in times):
                wrongs.append(f"{number} ended at {promise} and was kept until {times}")
            if state is CredentialsState.ACTIVE or len(times) != 1 or jobs.get(number) != 1:
                wrongs.append(f"{number} is {state}, expired at {times}, {jobs.get(number)} jobs")
        return wrongs

    def __str__(self) -> str:
        return f"{len(self.granted)} extends granted, {len(self.refused)} refused"


def _states() -> Any:
    return select(Credentials.id, Credentials.state)


def _expirations() -> Any:
    return select(Event.credentials_id, Event.time).where(Event.action == Action.EXPIRED)


def _jobs_by_credentials() -> Any:
    return select(Job.credentials_id, func.count()).group_by(Job.credentials_id)


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, state: str, lifetime: str, tmp_path: Path
) -> dict[str, str]:
    """The settings of an installation whose credentials live so long after an extend."""
    return {
        "STATE_URL": empty_state_url(request, state, tmp_path),
        "BROKER_URL": "memory://",
        "ENCRYPTION_KEYS": generate_key().reveal(),
        # Nothing is behind it.
        "MYSQL_URL": "",
        "MYSQL_SANDBOX_LIFETIME": lifetime,
    }


@pytest.fixture
def installation(environment: dict[str, str]) -> Iterator[Installation]:
    """An installation with an empty state, and nothing behind it."""
    installation = build_installation(config.load(environment))
    prepare_state(installation.database)
    stand_in(installation)
    yield installation
    installation.close()


def add_credentials(installation: Installation, count: int) -> range:
    """Add that many credentials without an end and return their numbers."""
    numbers = range(1, count + 1)
    with installation.database.write() as session:
        now = read_clock(session)
        session.execute(insert(Credentials), [_row(number, now) for number in numbers])
    return numbers


def _row(number: int, now: int) -> dict[str, Any]:
    principal = AUTHOR.principal
    return {
        "id": number,
        "backend": "mysql",
        "type": "sandbox",
        "state": CredentialsState.ACTIVE,
        "slot": str(number),
        "project_id": principal.project_id,
        "project_name": principal.project_name,
        "token_id": principal.token_id,
        "token_description": principal.token_description,
        "server": "default",
        "user_name": f"user_{number}",
        "object_name": f"object_{number}",
        "secret": "",
        "created_at": now,
        "touched_at": now - now % 1000,
        "expires_at": None,
        "claim_token": 0,
        "attempts": 0,
        "not_before": 0,
    }


def extend_in_time(
    installation: Installation,
    numbers: Iterable[int],
    extend: Callable[[int], int | None],
    first_aim: float = AIM,
) -> Race:
    """Extend each credential about when it ends; ``extend`` returns the new end, or None."""
    race, lock, waiting = Race(), threading.Lock(), iter(list(numbers))

    def play(_: int) -> None:
        aim, step, last = first_aim, STEP, None
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            end = _let_end(installation, number, aim + LEAD)
            time.sleep(max(0.0, end - aim - time.monotonic()))
            promise = extend(number)
            granted = promise is not None
            step, last = (2 * step if granted == last else STEP), granted
            aim = max(0.0, aim - step if granted else aim + 2 * step)
            with lock:
                if promise is None:
                    race.refused.add(number)
                else:
                    race.granted[number] = promise

    with ThreadPoolExecutor(max_workers=CLIENTS) as executor:
        list(executor.map(play, range(CLIENTS)))
    return race


def _let_end(installation: Installation, number: int, seconds: float) -> float:
    """Let a credential end in so many seconds; return when, by the monotonic clock."""
    with installation.database.write() as session:
        end, now = time.monotonic() + seconds, read_clock(session)
        values = {"expires_at": now + round(1000 * seconds)}
        session.execute(update(Credentials).where(Credentials.id == number).values(values))
    return end


def extend_once(installation: Installation, number: int) -> int | None:
    """Return the new end that the owner's extend is answered with, or None if it is refused."""
    try:
        answer = domain.extend(installation, AUTHOR, "mysql", str(number))
    except errors.CredentialsNotFound:
        return None
    assert answer.expires_at is not None
    return answer.expires_at


def _count_active(installation: Installation) -> int:
    query = select(func.count()).where(Credentials.state == CredentialsState.ACTIVE)
    with installation.database.read() as session:
        return session.execute(query).scalar_one()


@pytest.mark.timeout(TEST_DEADLINE + ENDED + ROUNDS * 0.3)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("lifetime", ["1s"])
def test_what_was_extended_lives_exactly_as_long_as_answered(
    installation: Installation, environment: dict[str, str]
) -> None:
    with sweeping(installation, environment, threads=1, processes=2) as sweepers:
        numbers = add_credentials(installation, ROUNDS)
        race = extend_in_time(installation, numbers, partial(extend_once, installation))
        wait_until(lambda: not _count_active(installation), timeout=ENDED, what="the last end")
    print(f"\n{ROUNDS} rounds: {race}, {sweepers.sweeps} sweeps")
    wrongs = race.wrongs(installation)
    assert not wrongs, "\n".join(wrongs[:20])
    # Both come often, or the rounds would not be about the moment between them.
    assert min(len(race.granted), len(race.refused)) > ROUNDS / 20


# Over HTTP ------------------------------------------------------------------------------


def test_requests_in_the_last_moment_are_kept_or_refused_and_nothing_between(
    service: FaultyService, oracle: Oracle, ledger: Ledger
) -> None:
    callers = {int(caller.create()["id"]): caller for caller in _callers(service, ledger)}

    def extend(number: int) -> int | None:
        answer = callers[number].extend(str(number))
        assert answer.status in (200, 404), answer
        return answer.status if answer.status == 200 else None

    with sweeping(service.installation, service.environment, threads=2):
        race = extend_in_time(service.installation, callers, extend)
        wait_dropped(service, sorted(race.refused))
    print(f"\n{REAL_ROUNDS} rounds over HTTP: {race}")
    assert len(race.granted) + len(race.refused) == REAL_ROUNDS
    for number in race.refused:
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    # What was granted is still there, with a login that works; nothing of the others is.
    oracle.assert_clean()


def _callers(service: FaultyService, ledger: Ledger) -> list[Caller]:
    return [Caller(service, ledger, front=number) for number in range(REAL_ROUNDS)]


# Guards ---------------------------------------------------------------------------------


def _lock_nothing(query: Any, **_: Any) -> Any:
    return query


def _is_retired(installation: Installation, number: int) -> bool:
    query = select(Credentials.state).where(Credentials.id == number)
    with installation.database.read() as session:
        return session.execute(query).scalar_one() is not CredentialsState.ACTIVE


@pytest.mark.parametrize("state", ["postgresql"])
@pytest.mark.parametrize("lifetime", ["1h"])
@pytest.mark.parametrize(
    ("sweep", "locking", "wrong"),
    [
        (sweep_and_remove, True, False),
        (sweep_carelessly, True, True),
        (sweep_and_remove, False, True),
    ],
    ids=["protected", "sweep that does not look again", "no locks"],
)
def test_the_race_is_lost_without_its_protections(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    sweep: Sweep,
    locking: bool,
    wrong: bool,
) -> None:

    def dawdle(session: Any, row: Credentials, *arguments: Any) -> None:
        with suppress(TimeoutError):
            gone = partial(_is_retired, installation, row.id)
            wait_until(gone, timeout=DAWDLE, what="a sweep")
        record_extension(session, row, *arguments)

    monkeypatch.setattr(domain, "record_extension", dawdle)
    if not locking:
        monkeypatch.setattr(Select, "with_for_update", _lock_nothing)
    with sweeping(installation, {}, threads=2, sweep=sweep):
        numbers = add_credentials(installation, GUARD_ROUNDS)
        race = extend_in_time(installation, numbers, partial(extend_once, installation), GUARD_AIM)
    query = select(Credentials.id).where(
        Credentials.id.in_(race.granted), Credentials.state != CredentialsState.ACTIVE
    )
    with installation.database.read() as session:
        broken = session.scalars(query).all()
    print(f"\n{race}, {len(broken)} of them dropped all the same")
    assert race.granted
    assert bool(broken) == wrong
