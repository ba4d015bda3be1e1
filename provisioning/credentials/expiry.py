from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import Session

from provisioning.credentials.observation import hold_removal, read_observation
from provisioning.jobs.recording import record_job, take_local_numbers
from provisioning.state.conditions import is_over
from provisioning.state.enums import UNFINISHED_JOBS, CredentialsState, JobCommand
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Job


def retire(session: Session, row: Credentials) -> None:
    """Turn an expired row over to a delete job, unless it was extended or taken meanwhile."""
    # Before the row's lock: all that need both take them in this order.
    (numbers,) = take_local_numbers(session, 1)
    still = (
        select(Credentials)
        .where(
            Credentials.id == row.id,
            Credentials.state == CredentialsState.ACTIVE,
            is_over(),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    locked = session.scalars(still).first()
    if locked is None:
        return
    locked.state, locked.slot = CredentialsState.DROPPING, None
    locked.attempts, locked.not_before, locked.asked = 0, 0, None
    if read_observation(session) is None:
        locked.job_id = record_job(session, JobCommand.DELETE, locked, numbers=numbers).id
    else:
        # Its owner wants a new one; nobody has asked for the end of this one.
        hold_removal(locked)
    record_credentials_event(
        session,
        Action.EXPIRED,
        locked,
        job_id=locked.job_id,
        detail={"expiration": format_time(locked.expires_at)},
    )


def expired_on(backend: str, server: str) -> Select[Credentials]:
    """Return the query of what has expired on a server; who waits longest comes first.

    What an unfinished job works on is left until that has ended (contract 9.1.9).
    """
    return (
        select(Credentials)
        .where(Credentials.backend == backend, Credentials.server == server, *_is_expired())
        .order_by(Credentials.expires_at)
    )


def expired_among(numbers: Sequence[int]) -> Select[Credentials]:
    """Return the query that locks those of the rows which have expired, by their ids alone.

    An extend locks its row and then changes the index of expirations. Who locks the rows by that
    index does so in the opposite order, and MySQL has one of the two fail.
    """
    query = select(Credentials).where(Credentials.id.in_(numbers), *_is_expired())
    return query.order_by(Credentials.id).with_for_update()


def _is_expired() -> tuple[ColumnElement[bool], ...]:
    busy = exists().where(Job.slot == Credentials.slot, Job.status.in_(UNFINISHED_JOBS))
    return (Credentials.state == CredentialsState.ACTIVE, is_over(), ~busy)
