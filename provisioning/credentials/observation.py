"""Observe mode: nothing that was there before is removed until an operator says so.

A state that was restored from a backup does not know what was extended, made or dropped since.
While the service observes, nothing expires, and what the old state had begun is held: jobs and
rows wait in the year 9999 until the observation ends. Creations go on, and so do removals of
what was made since, or that somebody asked for since.
"""

import json
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning.backends.base import EngineBusy
from provisioning.state.database import Database, read_clock
from provisioning.state.enums import UNFINISHED_CREDENTIALS, UNFINISHED_JOBS
from provisioning.state.events import Action, record_operation
from provisioning.state.models import Credentials, Job, Setting

SETTING = "observing"
#: Milliseconds of 9999-01-01, the ``not_before`` of what is held.
HELD = 253_370_764_800_000


@dataclass(frozen=True)
class Observation:
    """Since when the service observes, in milliseconds, and why."""

    since: int
    why: str


class Held(EngineBusy):
    """The service observes, and nobody asked for this removal since."""


def read_observation(session: Session) -> Observation | None:
    """Return the observation that is going on in the caller's transaction, or None."""
    query = select(Setting.value).where(Setting.name == SETTING)
    value = session.execute(query).scalar()
    return None if value is None else Observation(**json.loads(value))


def current_observation(database: Database) -> Observation | None:
    """Return the observation that is going on, or None."""
    with database.read() as session:
        return read_observation(session)


def require_requested(database: Database, row: Credentials, requested_at: int) -> None:
    """Raise ``Held`` if the row's objects are not to be removed now.

    ``requested_at`` is when somebody asked for it, in milliseconds.
    """
    observation = current_observation(database)
    if observation is not None and max(row.created_at, requested_at) < observation.since:
        raise Held("the service observes: nothing from before is removed")


def observe(database: Database, why: str) -> bool:
    """Begin to observe, and hold what is unfinished; return False if it observes already."""
    try:
        with database.write() as session:
            if read_observation(session) is not None:
                return False
            value = json.dumps({"since": read_clock(session), "why": why})
            session.add(Setting(name=SETTING, value=value))
            session.flush()
            jobs = update(Job).where(Job.status.in_(UNFINISHED_JOBS))
            session.execute(jobs.values(not_before=HELD))
            rows = update(Credentials).where(Credentials.state.in_(UNFINISHED_CREDENTIALS))
            session.execute(rows.values(not_before=HELD))
            record_operation(session, Action.OBSERVATION_BEGUN, "", detail={"why": why})
    except IntegrityError:
        # Another process began at the same moment.
        return False
    return True


def hold_removal(row: Credentials) -> None:
    """Let a row that is to be removed wait for the end of the observation."""
    row.not_before = HELD


def stop_observing(session: Session) -> None:
    """Let the service act again, also on what was held."""
    session.execute(delete(Setting).where(Setting.name == SETTING))
    for model in (Job, Credentials):
        session.execute(update(model).where(model.not_before == HELD).values(not_before=0))
    record_operation(session, Action.OBSERVATION_ENDED, "")
