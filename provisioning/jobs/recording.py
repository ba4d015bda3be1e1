"""Records new jobs, in the transaction of what asks for them."""

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Caller, Principal
from provisioning.configuration.config import Config
from provisioning.installation import Installation
from provisioning.state.database import next_numbers, read_clock
from provisioning.state.enums import JobCommand, JobStatus
from provisioning.state.events import Action, record_job_event
from provisioning.state.models import Credentials, Job

COMPONENT = "keboola-provisioning-bundle"


#: The project's limit of jobs that run at once.
PARALLEL_LIMIT = "components.jobsParallelism"


def take_numbers(installation: Installation, caller: Caller) -> tuple[int, int] | None:
    """Return the job id and the run id ticket of a new job (contract 9.2).

    They come from the Storage API; None without one, or where an operator without a token acts:
    then `record_job` takes them from the local sequence. Raises ``TokenServiceUnavailable``
    before anything is recorded.
    """
    if installation.storage is None or caller.operator is not None:
        return None
    job_id = installation.storage.create_ticket(caller.token, caller.run_id)
    return job_id, installation.storage.create_ticket(caller.token, caller.run_id)


def record_job(
    session: Session,
    command: JobCommand,
    row: Credentials,
    *,
    owner: Principal | None = None,
    author: str | None = None,
    run_id: str = "",
    numbers: tuple[int, int] | None = None,
    parallel_limit: int | None = None,
) -> Job:
    """Add a waiting job on a credential, in the caller's transaction.

    ``owner`` is the caller's principal; without one the job is the service's own and runs
    under the owner of the credential (contract 11.3); it takes no place of the project's.
    ``author`` is who asked for it, if not the owner.
    Raises ``TokenServiceUnavailable`` when a job has the number already.
    """
    values = columns_on(command, row) | {"parallel_limit": parallel_limit}
    return _record(session, owner or row, run_id, numbers, author, **values)


def columns_on(command: JobCommand, row: Credentials) -> dict[str, Any]:
    """Return the columns that say what a job does to a credential."""
    return {
        "command": command,
        "backend": row.backend,
        "params": {"backend": row.backend, "id": str(row.id)},
        "credentials_id": row.id,
        "slot": slot_of(row.token_id, row.backend, row.type),
    }


def take_local_numbers(session: Session, count: int) -> list[tuple[int, int]]:
    """Return the job ids and run id tickets of so many new jobs, from the local sequence."""
    numbers = next_numbers(session, "ticket", 2 * count)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def waiting_columns(
    owner: Principal | Credentials, numbers: tuple[int, int], now: int, run_id: str = ""
) -> dict[str, Any]:
    """Return the columns of a new job of ``owner``, but for what it does.

    ``numbers`` are its id and its run id ticket.
    """
    job_id, ticket = numbers
    return {
        "id": job_id,
        "run_id": f"{run_id}.{ticket}" if run_id else str(ticket),
        "status": JobStatus.WAITING,
        "result": {},
        "progress": [],
        "project_id": owner.project_id,
        "project_name": owner.project_name,
        "token_id": owner.token_id,
        "token_description": owner.token_description,
        "created_at": now,
        "attempts": 0,
        "not_before": 0,
    }


def record_creation(
    session: Session,
    caller: Caller,
    numbers: tuple[int, int] | None,
    *,
    backend: str,
    slot: str,
    params: dict[str, Any],
    request: str,
    parallel_limit: int | None = None,
) -> Job:
    """Add a waiting job that creates, in the caller's transaction.

    ``request`` is encrypted. Raises ``TokenServiceUnavailable`` as `record_job` does.
    """
    return _record(
        session,
        caller.principal,
        caller.run_id,
        numbers,
        command=JobCommand.CREATE,
        backend=backend,
        params=params,
        request=request,
        slot=slot,
        parallel_limit=parallel_limit,
    )


def _record(
    session: Session,
    owner: Principal | Credentials,
    run_id: str,
    numbers: tuple[int, int] | None,
    author: str | None = None,
    **values: Any,
) -> Job:
    numbers = numbers or take_local_numbers(session, 1)[0]
    job = Job(**waiting_columns(owner, numbers, read_clock(session), run_id), **values)
    session.add(job)
    try:
        session.flush()
    except IntegrityError:
        # The ticket service gave a number a second time: it is not to be relied on now.
        raise errors.TokenServiceUnavailable(cause="it gave a job's number twice") from None
    record_job_event(session, Action.JOB_ACCEPTED, job, token_id=author)
    return job


def parallel_limit_of(config: Config, principal: Principal) -> int | None:
    """Return how many jobs of the caller's project may run at once (contract 9.1.9)."""
    limit = config.project_parallel_jobs
    return principal.limits.get(PARALLEL_LIMIT, limit) or None


def slot_of(token_id: str, backend: str, type_: str) -> str:
    """Return the key that has at most one live credential and one running job."""
    return f"{token_id}:{backend}:{type_}"
