"""What operators remove: credentials of any project, one or all that are old (contract 11.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.management_tokens import Operator
from provisioning.credentials.observation import current_observation
from provisioning.credentials.reconcile import removal_values
from provisioning.installation import Installation
from provisioning.jobs.recording import record_job, take_local_numbers
from provisioning.state.conditions import is_not_protected
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState, JobCommand
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Job

log = structlog.get_logger()

#: Rows that one transaction changes: the writes of others wait for its end.
BATCH = 100


@dataclass(frozen=True)
class GarbageCollection:
    """What a collection of garbage has begun to remove."""

    ids: list[int]
    #: The first of the delete jobs, to be told to workers; each that ends wakes another.
    jobs: list[Job]


def collect_garbage(
    installation: Installation, operator: Operator, backend: str, type_: str, seconds: int
) -> GarbageCollection:
    """Begin to remove the live credentials of a type that were touched longer ago.

    Each is deleted by a job as its owner could, under the owner's name. What is on its way out
    already is left alone, so a repeat does no harm, and goes on where one that broke off ended; and
    so is what an operator protects. Raises ``Observing`` after a restore: cron may have asked.
    """
    if current_observation(installation.database) is not None:
        raise errors.Observing
    with installation.database.read() as session:
        oldest = read_clock(session) - seconds * 1000
        old = (
            Credentials.state == CredentialsState.ACTIVE,
            Credentials.backend == backend,
            Credentials.type == type_,
            Credentials.touched_at < oldest,
            is_not_protected(),
        )
        found = session.scalars(select(Credentials.id).where(*old).order_by(Credentials.id)).all()
    collected = GarbageCollection([], [])
    for start in range(0, len(found), BATCH):
        chosen = Credentials.id.in_(found[start : start + BATCH])
        with installation.database.write() as session:
            jobs = _remove_all(session, operator, chosen, *old)
        collected.ids.extend(job.credentials_id for job in jobs if job.credentials_id)
        collected.jobs.extend(jobs[: BATCH - len(collected.jobs)])
    log.info("garbage_collected", backend=backend, type=type_, credentials=len(collected.ids))
    return collected


def _remove_all(
    session: Session, operator: Operator, *conditions: ColumnElement[bool]
) -> Sequence[Job]:
    query = select(Credentials).where(*conditions).order_by(Credentials.id).with_for_update()
    rows = session.scalars(query).all()
    numbers = take_local_numbers(session, len(rows))
    return [
        record_removal(
            session,
            row,
            Action.COLLECTED,
            operator,
            numbers=pair,
            detail={"touch": format_time(row.touched_at)},
        )
        for row, pair in zip(rows, numbers, strict=True)
    ]


def record_removal(
    session: Session,
    row: Credentials,
    action: Action,
    operator: Operator,
    *,
    numbers: tuple[int, int] | None = None,
    detail: dict[str, Any] | None = None,
) -> Job:
    """Turn a locked, active row over to a delete job; the operator is named in the event."""
    job = record_job(session, JobCommand.DELETE, row, run_id=operator.run_id, numbers=numbers)
    for name, value in removal_values(job.id).items():
        setattr(row, name, value)
    record_credentials_event(
        session,
        action,
        row,
        author=operator.author,
        run_id=operator.run_id,
        job_id=job.id,
        detail=detail,
    )
    return job
