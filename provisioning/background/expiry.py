"""Removes what has expired: in batches, a few of them at once on each server.

An expired credential is nobody's to see, so there is no hurry to turn thousands of them into
waiting jobs that others would have to wait for. A worker with room takes a batch: one
transaction records the delete jobs, as begun by this process, and another one their ends. What
dies or fails in between are jobs like any others, which a sweep finds.
"""

import time
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.orm import Session

from provisioning.backends.base import Backend, BulkBackend, EngineUnavailable
from provisioning.background.job_runner import retry_or_give_up
from provisioning.credentials.expiry import expired_among, expired_on
from provisioning.credentials.observation import read_observation
from provisioning.credentials.reconcile import (
    close_all_dropped,
    close_dropped,
    describe,
    drop_row,
    removal_values,
)
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.installation import Installation
from provisioning.jobs.claiming import Claimed, begun_columns
from provisioning.jobs.outcomes import close_job, close_successful, success
from provisioning.jobs.recording import columns_on, take_local_numbers, waiting_columns
from provisioning.state.claims import ClaimLost, Lease, owner_name
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import JobCommand, JobStatus
from provisioning.state.events import Action, credentials_event, job_event, record_events
from provisioning.state.failpoints import failpoint
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Job

log = structlog.get_logger()

#: Rows of a batch at most: its transactions hold up the writes of others.
LARGEST_BATCH = 32
#: Seconds that a batch should take: those of a slow server have fewer rows.
BATCH_SECONDS = 0.5


@dataclass(frozen=True)
class _Removal(Claimed):
    """An expired credential and its delete job, both claimed by this process."""

    row: Credentials
    row_lease: Lease


def drain(installation: Installation, backend: str, server: str, size: int) -> int | None:
    """Remove up to ``size`` expired credentials of a server; return the size of the next batch.

    Return None when there is nothing to go on with for now: nothing is left, the server does
    not answer, or this process removes enough there already.
    """
    with installation.batch_slots.enter(backend, server) as free:
        if not free or not _answers(installation, backend, server):
            return None
        start = time.monotonic()
        removals = _claim(installation, backend, server, min(size, LARGEST_BATCH))
        if not removals:
            return None
        failpoint("expiry.claimed")
        if not _remove(installation, removals):
            return None
        fitting = len(removals) * BATCH_SECONDS / max(time.monotonic() - start, 0.001)
        return max(min(int(fitting), 2 * size, LARGEST_BATCH), 1)


def _answers(installation: Installation, backend: str, server: str) -> bool:
    """Return whether something has expired on the server, and the server answers.

    While it is away nothing is recorded: jobs would fail, be given up, and come again.
    """
    with installation.database.read() as session:
        first = session.scalars(expired_on(backend, server).limit(1)).first()
    if first is None:
        return False
    try:
        backend_of(installation, first).exists(spec_of(first))
    except EngineUnavailable as problem:
        log.warning("expiry_delayed", backend=backend, server=server, failure=describe(problem))
        return False
    except Exception:
        # What is wrong with the first one must not keep the others waiting.
        return True
    return True


# Recording ------------------------------------------------------------------------------

#: Built once, as all that runs for every batch.
_TURN_OVER = (
    update(Credentials.__table__)  # type: ignore[arg-type]
    .where(Credentials.id == bindparam("row_id"))
    .values(
        removal_values(bindparam("row_job"))
        | {
            "slot": None,
            "claim_token": Credentials.claim_token + 1,
            "claim_owner": bindparam("row_owner"),
            "claim_until": now_ms() + bindparam("claim_milliseconds"),
        }
    )
)

_INSERT_JOB = insert(Job.__table__)  # type: ignore[arg-type]


def _claim(installation: Installation, backend: str, server: str, size: int) -> list[_Removal]:
    """Turn a batch over to delete jobs that this process has begun, in one transaction."""
    seconds = installation.config.claim_seconds
    start = time.monotonic()
    with installation.database.write() as session:
        if read_observation(session) is not None:
            return []
        # The sequence's lock keeps others who do the same from finding the same rows.
        numbers = take_local_numbers(session, size)
        found = expired_on(backend, server).with_only_columns(Credentials.id).limit(size)
        rows = session.scalars(expired_among(session.scalars(found).all())).all()
        if not rows:
            return []
        now = read_clock(session)
        jobs = [_begun_job(row, pair, now) for row, pair in zip(rows, numbers, strict=False)]
        claim = {"row_owner": owner_name(), "claim_milliseconds": seconds * 1000}
        session.connection().execute(
            _TURN_OVER,
            [
                {"row_id": row.id, "row_job": job["id"], **claim}
                for row, job in zip(rows, jobs, strict=True)
            ],
        )
        claimed = {
            "claim_token": 1,
            "claim_owner": owner_name(),
            "claim_until": now + seconds * 1000,
        }
        session.connection().execute(_INSERT_JOB, [{**job, **claimed} for job in jobs])
        removals = [
            _Removal(
                Job(**job),
                Lease(Job, job["id"], 1, start + seconds),
                row,
                Lease(Credentials, row.id, row.claim_token + 1, start + seconds),
            )
            for row, job in zip(rows, jobs, strict=True)
        ]
        record_events(session, [event for one in removals for event in _beginning(one)])
        failpoint("expiry.claiming")
        session.expunge_all()
    for one in removals:
        one.row.job_id = one.job.id
    return removals


def _begun_job(row: Credentials, numbers: tuple[int, int], now: int) -> dict[str, Any]:
    """Return the columns of the service's own job, under the credential's owner (contract 11.3)."""
    waiting = waiting_columns(row, numbers, now)
    return {**waiting, **columns_on(JobCommand.DELETE, row), **begun_columns(now)}


def _beginning(one: _Removal) -> list[dict[str, Any]]:
    expiration = {"expiration": format_time(one.row.expires_at)}
    return [
        job_event(Action.JOB_ACCEPTED, one.job),
        credentials_event(Action.EXPIRED, one.row, job_id=one.job.id, detail=expiration),
        job_event(Action.JOB_STARTED, one.job, detail={"attempt": 1}),
    ]


# Removing -------------------------------------------------------------------------------


def _remove(installation: Installation, removals: list[_Removal]) -> bool:
    """Drop them all; return False when one failed, which leaves the rest to sweeps."""
    backend = backend_of(installation, removals[0].row)
    with installation.keeper.keep(*(lease for one in removals for lease in _leases(one))):
        done = _drop_together(backend, removals)
        left = [one for one in removals if one not in done]
        for position, one in enumerate(left):
            try:
                drop_row(backend, one.row, one.row_lease)
            except ClaimLost:
                log.warning("claim_lost", job=one.job.id)
            except Exception as problem:
                _settle(installation, done)
                _delay(installation, one, problem)
                _hand_back(installation, left[position + 1 :])
                return False
            else:
                done.append(one)
        _settle(installation, done)
    return True


def _drop_together(backend: Backend, removals: list[_Removal]) -> list[_Removal]:
    """Return those that went with others; what keeps the rest is seen one by one."""
    done: list[_Removal] = []
    if not isinstance(backend, BulkBackend):
        return done
    by_id = {one.row.id: one for one in removals}
    try:
        for specs in backend.drop_many([(spec_of(one.row), one.row_lease) for one in removals]):
            done.extend(by_id[spec.credentials_id] for spec in specs)
    except Exception as problem:
        log.warning("not_dropped_together", failure=describe(problem))
    return done


def _leases(one: _Removal) -> tuple[Lease, Lease]:
    return one.row_lease, one.lease


def _settle(installation: Installation, done: list[_Removal]) -> None:
    """End the jobs of what is gone: all in one transaction but those that others touched."""
    if not done:
        return
    with installation.database.write() as session:
        untouched = _lock_untouched(session, done)
        if untouched:
            close_all_dropped(session, [one.row for one in untouched])
            close_successful(session, [one.job for one in untouched])
    for one in done:
        if one not in untouched:
            _close(installation, one)
    log.info("expired_dropped", backend=done[0].row.backend, credentials=len(done))
    failpoint("expiry.settled")


def _lock_untouched(session: Session, done: list[_Removal]) -> list[_Removal]:
    """Lock the rows, and return those that this process still holds and nobody wants killed."""
    rows = select(Credentials.id, Credentials.claim_token).where(
        Credentials.id.in_(one.row.id for one in done)
    )
    jobs = select(Job.id, Job.claim_token).where(
        Job.id.in_(one.job.id for one in done), Job.status == JobStatus.PROCESSING
    )
    held_rows = _tokens(session, rows.order_by(Credentials.id))
    held_jobs = _tokens(session, jobs.order_by(Job.id))
    return [
        one
        for one in done
        if held_rows.get(one.row.id) == one.row_lease.token
        and held_jobs.get(one.job.id) == one.lease.token
    ]


def _tokens(session: Session, query: Select[int, int]) -> dict[int, int]:
    return {row.id: row.claim_token for row in session.execute(query.with_for_update())}


def _close(installation: Installation, one: _Removal) -> None:
    try:
        with installation.database.write() as session:
            close_dropped(session, one.row, one.row_lease)
            close_job(session, one.job, one.lease, **success())
    except ClaimLost:
        log.warning("claim_lost", job=one.job.id)


def _delay(installation: Installation, one: _Removal, problem: Exception) -> None:
    try:
        retry_or_give_up(installation, one, problem)
    except ClaimLost:
        log.warning("claim_lost", job=one.job.id)


def _hand_back(installation: Installation, rest: list[_Removal]) -> None:
    """Leave the jobs that were not tried to the next sweep."""
    for one in rest:
        try:
            with installation.database.write() as session:
                for lease in _leases(one):
                    lease.close(session)
        except ClaimLost:
            log.warning("claim_lost", job=one.job.id)
