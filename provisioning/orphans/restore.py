"""Notices that the state database is an older one than it was, and has the service observe.

Two witnesses are outside of it. The servers: what bears our mark and a number that no row has,
not even a closed one, was made after the state was copied. And the broker, where it keeps keys:
each sweep writes its time there after writing it into the state, so the state is never behind.

The servers are asked when the last sweep that the state knows of is long ago: before a process
acts on a state that was out of use, or is an old one. What neither tells is a copy that nothing
was made after, with a broker that has forgotten; or a copy younger than ``SILENCE``.
"""

from contextlib import suppress

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from provisioning.backends.base import ServerObject
from provisioning.credentials.observation import HELD, observe, read_observation, stop_observing
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation
from provisioning.orphans import comparison
from provisioning.orphans.report import ServerInventory
from provisioning.state.database import Database, last_number, now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Job, Sequence

log = structlog.get_logger()

#: Milliseconds without a sweep after which the state may be an old one.
SILENCE = 60_000
#: Kept as sequences: the time of the last sweep, and the last number given out when the last
#: observation ended.
CLOCK, CONFIRMED = "clock", "confirmed"


def notice_restore(installation: Installation, outside: int | None = None) -> None:
    """Observe if the state is an old one; ``outside`` is the time the broker keeps, if any.

    Before a process acts on the state. A state that cannot be read yet is not acted on either.
    """
    with suppress(StateUnavailable):
        if installation.database.is_current():
            _compare(installation, outside)


def _compare(installation: Installation, outside: int | None) -> None:
    with installation.database.read() as session:
        if read_observation(session) is not None:
            return
        query = select(Sequence.value, now_ms()).where(Sequence.name == CLOCK)
        last, now = session.execute(query).one()
    if outside is not None and outside > last + SILENCE:
        known = format_time(last) if last else "none"
        why = f"the broker knows of a sweep at {format_time(outside)}, the state of {known}"
        begin_observation(installation, why)
    elif now - last > SILENCE:
        _ask_servers(installation)


def begin_sweep(installation: Installation, outside: int | None) -> None:
    """Look whether the state is an old one, then note in it that it is in use."""
    notice_restore(installation, outside)
    with installation.database.write() as session:
        _tick(session)


def last_sweep(database: Database) -> int:
    """Return the time of the last sweep that the state knows of, to be kept outside of it."""
    with database.read() as session:
        return last_number(session, CLOCK)


def _tick(session: Session) -> None:
    """Write the time; it never goes back, though the database's clock may be set back."""
    clock = update(Sequence).where(Sequence.name == CLOCK, Sequence.value < now_ms())
    session.execute(clock.values(value=now_ms()))


# The servers' witness -------------------------------------------------------------------


def _ask_servers(installation: Installation) -> None:
    """Observe if a server has what no row has ever named."""
    inventories = comparison.take_inventories(installation)
    for inventory in inventories:
        if inventory.failure:
            log.warning(
                "restore_not_looked_for", server=inventory.server, failure=inventory.failure
            )
    strangers = find_strangers(installation, inventories)
    if strangers:
        one = strangers[0]
        why = f"server {one.server} has {one.name}, of which the state knows nothing"
        begin_observation(
            installation, f"{why}, and {len(strangers) - 1} more" if strangers[1:] else why
        )


def find_strangers(
    installation: Installation, inventories: list[ServerInventory]
) -> list[ServerObject]:
    """Return what was made under numbers that no row has; the newest first.

    Those that an operator knew of when the last observation ended are no news. Without a prefix
    nobody can tell whose they are.
    """
    with installation.database.read() as session:
        confirmed = last_number(session, CONFIRMED)
    numbered = [
        one
        for inventory in inventories
        if installation.prefix or inventory.backend == "docker"
        for one in inventory.objects
        if number_of(one) > confirmed
    ]
    known = comparison.rows_by_id(installation.database, {number_of(one) for one in numbered})
    strangers = [one for one in numbered if number_of(one) not in known]
    return sorted(strangers, key=number_of, reverse=True)


def number_of(one: ServerObject) -> int:
    """Return the credential's number in an object's name, 0 without one."""
    return one.spec.credentials_id if one.spec else 0


def begin_observation(installation: Installation, why: str) -> None:
    """Observe, and let no number be given that an object bears already."""
    if observe(installation.database, why):
        log.error("observing", why=why)
    raise_sequence(installation)


def raise_sequence(installation: Installation) -> None:
    """Let new credentials have numbers above all that servers know of."""
    inventories = comparison.take_inventories(installation)
    highest = max((number_of(one) for one in find_strangers(installation, inventories)), default=0)
    sequence = update(Sequence).where(Sequence.name == "credentials", Sequence.value < highest)
    with installation.database.write() as session:
        session.execute(sequence.values(value=highest))


# The end --------------------------------------------------------------------------------


def end_observation(installation: Installation) -> None:
    """End the observation.

    What the old state has in the making, and is there by now, was finished since: it is taken
    as it is, for a sandbox would be made anew. Raises an ``EngineError`` when a server cannot
    tell, with nothing changed.
    """
    query = select(Credentials).where(
        Credentials.state == CredentialsState.CREATING, Credentials.not_before == HELD
    )
    raise_sequence(installation)
    with installation.database.read() as session:
        rows = session.scalars(query).all()
    finished = [row for row in rows if backend_of(installation, row).exists(spec_of(row))]
    with installation.database.write() as session:
        for row in finished:
            _take_as_made(session, row)
        stop_observing(session)
        # From here on this is the state, however old it was.
        _tick(session)
        confirmed = update(Sequence).where(Sequence.name == CONFIRMED)
        session.execute(confirmed.values(value=last_number(session, "credentials")))
    log.info("acting", finished=len(finished))


def _take_as_made(session: Session, row: Credentials) -> None:
    """Make a row active; its job finds it made when it goes on."""
    made = update(Credentials).where(
        Credentials.id == row.id, Credentials.state == CredentialsState.CREATING
    )
    session.execute(
        made.values(state=CredentialsState.ACTIVE, job_id=None, not_before=0, failure=None)
    )
    session.execute(update(Job).where(Job.id == row.job_id).values(credentials_id=None))
