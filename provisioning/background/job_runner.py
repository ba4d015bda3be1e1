"""Runs jobs: each step of one is claimed, done, and settled (contract 9).

A step has three outcomes: done, again later (with a reason and a growing pause), or given up
after cleaning up. A kill is looked at when a job is taken up, before it is settled, and in
the midst of creations, which take long.
"""

from collections.abc import Collection

import structlog

from provisioning.backends.base import EngineError
from provisioning.credentials.reconcile import (
    CleanupPending,
    access_values,
    close_dropped,
    describe,
    drop_objects,
    next_turn,
    values_for_retry,
)
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.installation import Installation
from provisioning.jobs.claiming import Claimed
from provisioning.jobs.outcomes import (
    close_job,
    internal_error,
    is_spent,
    record_delay,
    record_restoration,
    success,
)
from provisioning.jobs.scheduling import claim_next
from provisioning.sandbox.creation import Creation
from provisioning.state.claims import ClaimLost, Lease, WorkersLost
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.events import Action, record_job_event
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Job

log = structlog.get_logger()


def run_job(installation: Installation, job_id: int, backends: Collection[str]) -> Job | None:
    """Run one step of the job a message named, or of one of these backends before it in turn.

    Return that job, or None when none was due.
    """
    claimed = claim_next(installation, job_id, backends)
    if claimed is None:
        return None
    job = claimed.job
    failpoint(f"{job.command}.claimed")
    try:
        if job.attempts > installation.config.job_attempts:
            _give_up(installation, claimed)
        elif job.command is JobCommand.CREATE:
            Creation(installation, claimed).run()
        elif job.status is JobStatus.TERMINATING:
            _end_killed(installation, claimed)
        elif job.command is JobCommand.DELETE and claimed.row and claimed.row_lease:
            _run_delete(installation, claimed, claimed.row, claimed.row_lease)
        elif claimed.row:
            _run_kill(installation, claimed, claimed.row)
    except ClaimLost:
        log.warning("claim_lost", job=job.id)
    return job


def _give_up(installation: Installation, claimed: Claimed) -> None:
    """End a job that no worker survives, before it takes another one along."""
    job = claimed.job
    problem = WorkersLost(f"its worker died at attempt {job.attempts - 1}")
    if job.command is JobCommand.CREATE:
        Creation(installation, claimed).abandon(problem)
    elif job.status is JobStatus.TERMINATING:
        _end_killed(installation, claimed)
    else:
        retry_or_give_up(installation, claimed, problem)


def _run_delete(
    installation: Installation, claimed: Claimed, row: Credentials, lease: Lease
) -> None:
    job = claimed.job
    try:
        drop_objects(installation, row, lease, claimed.lease, requested_at=job.created_at)
    except ClaimLost:
        raise
    except Exception as problem:
        retry_or_give_up(installation, claimed, problem)
        return
    with installation.database.write() as session:
        close_dropped(session, row, lease)
        close_job(session, job, claimed.lease, **success())
    log.info("credentials_dropped", credentials=row.id, backend=row.backend, job=job.id)
    failpoint("delete.settled")


def _run_kill(installation: Installation, claimed: Claimed, row: Credentials) -> None:
    job = claimed.job
    try:
        with installation.keeper.keep(claimed.lease):
            ended = backend_of(installation, row).kill(spec_of(row), claimed.lease)
        failpoint("kill.sessions")
    except ClaimLost:
        raise
    except Exception as problem:
        retry_or_give_up(installation, claimed, problem)
        return
    with installation.database.write() as session:
        record_job_event(session, Action.SESSIONS_KILLED, job, detail={"sessions": ended})
        close_job(session, job, claimed.lease, **success())
    log.info("sessions_killed", credentials=row.id, count=ended, job=job.id)
    failpoint("kill.settled")


def _end_killed(installation: Installation, claimed: Claimed) -> None:
    """End a killed delete or kill; a credential that was to be deleted is left to the sweep."""
    with installation.database.write() as session:
        if claimed.row_lease is not None:
            claimed.row_lease.close(session, job_id=None)
        close_job(session, claimed.job, claimed.lease)
    log.info("job_terminated", job=claimed.job.id)


def retry_or_give_up(installation: Installation, claimed: Claimed, problem: Exception) -> None:
    """Put the job back for later, or end it and make its credential visible again.

    A delete that has ended access is a success even if objects are left, which sweeps go on
    removing (contract 7.4).
    """
    job, row, lease = claimed.job, claimed.row, claimed.row_lease
    failure = describe(problem)
    if row is not None and lease is not None and _has_ended_access(row, problem):
        _end_or_repeat_cleanup(installation, claimed, problem, row, lease)
        return
    # Before the transaction: it asks the server.
    usable = row is None or lease is None or _is_usable(installation, row)
    with installation.database.write() as session:
        spent = is_spent(session, job, installation.config)
        if spent:
            outcome = internal_error(problem, failure)
            if row is not None and lease is not None and usable:
                lease.close(session, state=CredentialsState.ACTIVE, job_id=None, failure=failure)
                record_restoration(session, row, job, row.token_id)
            elif row is not None and lease is not None:
                # Half of a removal locks the login: nobody could use it, so sweeps go on.
                lease.close(session, job_id=None, **values_for_retry(row.attempts, failure))
            close_job(session, job, claimed.lease, status=JobStatus.ERROR, **outcome)
        else:
            # The attempt was counted when the job was claimed.
            claimed.lease.close(session, **values_for_retry(job.attempts - 1, failure))
            record_delay(session, job, problem, failure)
            if lease is not None:
                lease.close(session, failure=failure)
    if spent:
        exception_id = outcome["result"]["exceptionId"]
        log.error("job_failed", job=job.id, failure=failure, exception_id=exception_id)
    else:
        log.warning("job_delayed", job=job.id, failure=failure)


def _has_ended_access(row: Credentials, problem: Exception) -> bool:
    return isinstance(problem, CleanupPending) or row.access_ended_at is not None


def _is_usable(installation: Installation, row: Credentials) -> bool:
    """Return whether the owner could go on with the credential, as far as the server tells."""
    try:
        return backend_of(installation, row).exists(spec_of(row))
    except EngineError:
        return True


def _end_or_repeat_cleanup(
    installation: Installation,
    claimed: Claimed,
    problem: Exception,
    row: Credentials,
    lease: Lease,
) -> None:
    """Try again what is left of a credential that nobody can reach, by the job or by sweeps.

    Its slot is free from now on, so that neither a new credential nor its jobs wait for this one.
    """
    job, failure = claimed.job, describe(problem)
    with installation.database.write() as session:
        free = access_values(row, problem)
        if is_spent(session, job, installation.config):
            lease.close(session, job_id=None, **next_turn(row.attempts, problem), **free)
            close_job(session, job, claimed.lease, **success(cleanup="pending"))
        else:
            lease.close(session, failure=failure, **free)
            claimed.lease.close(
                session, slot=f"cleanup:{row.id}", **next_turn(job.attempts - 1, problem)
            )
            record_delay(session, job, problem, failure)
    log.warning("cleanup_delayed", credentials=row.id, job=job.id, failure=failure)
