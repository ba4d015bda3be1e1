"""What is due: expired credentials, and work whose message or process was lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    CompoundSelect,
    Select,
    literal,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from provisioning.configuration.catalog import worker_groups
from provisioning.credentials.expiry import expired_on
from provisioning.credentials.observation import read_observation
from provisioning.installation import Installation
from provisioning.jobs.callbacks import due_callbacks
from provisioning.jobs.idempotency import forget_old_keys
from provisioning.jobs.scheduling import due_jobs
from provisioning.orphans.restore import begin_sweep
from provisioning.state.conditions import is_unclaimed
from provisioning.state.database import now_ms
from provisioning.state.enums import UNFINISHED_CREDENTIALS
from provisioning.state.models import Credentials, Job

#: Jobs of the same workers that one sweep finds, and credentials, and callbacks; the next one
#: follows in seconds.
SWEEP_BATCH = 200
RECOVERY_BATCH = 100
#: Expired credentials that `expiry` begins with on a server, until it knows how fast that is.
FIRST_BATCH = 4


@dataclass(frozen=True)
class DueWork:
    """What somebody should work on now: id and backend of jobs, credentials without a job,
    and finished jobs whose end was not told."""

    jobs: list[tuple[int, str]]
    credentials: list[tuple[int, str]]
    callbacks: list[tuple[int, str]]
    #: Backend and server of expired credentials, which `expiry` removes.
    expired: list[tuple[str, str]]

    def counts(self) -> dict[str, int]:
        """Return how much there is of each."""
        return {
            "dueJobs": len(self.jobs),
            "dueCredentials": len(self.credentials),
            "dueCallbacks": len(self.callbacks),
            "serversWithExpired": len(self.expired),
        }


def sweep(installation: Installation, outside: int | None = None) -> DueWork:
    """Forget old keys, and return everything that is due.

    Safe at any time and in any number: what is due is claimed before it is worked on. ``outside``
    is the time of the last sweep that the broker keeps, if any (`orphans.restore`).
    """
    begin_sweep(installation, outside)
    forget_old_keys(installation.database)
    due = DueWork([], [], [], [])
    servers = [
        (name, server)
        for name, backend in installation.backends.items()
        for server in backend.servers()
    ]
    with installation.database.read() as session:
        # Each for itself: what waits for workers that are away hides nothing from the others.
        for backends in worker_groups():
            due.jobs.extend(due_jobs(session, backends, SWEEP_BATCH))
            due.credentials.extend(_pairs(session, _abandoned(backends)))
            due.callbacks.extend(_pairs(session, _due_callbacks(backends)))
        if servers and read_observation(session) is None:
            found = session.execute(_with_expired(servers))
            due.expired.extend((row.backend, row.server) for row in found)
    return due


def _pairs(session: Session, query: Select[int, str]) -> list[tuple[int, str]]:
    return [(row.id, row.backend) for row in session.execute(query.limit(RECOVERY_BATCH))]


def _with_expired(servers: Sequence[tuple[str, str]]) -> CompoundSelect[str, str]:
    """Return the query of those servers on which something has expired, a look at an index each."""
    return union_all(
        *(
            select(literal(backend).label("backend"), literal(server).label("server")).where(
                expired_on(backend, server).order_by(None).exists()
            )
            for backend, server in servers
        )
    )


def _abandoned(backends: Collection[str]) -> Select[int, str]:
    """Return the query of rows that no job and no process drives; the longest due come first."""
    return (
        select(Credentials.id, Credentials.backend)
        .where(
            Credentials.state.in_(UNFINISHED_CREDENTIALS),
            Credentials.backend.in_(backends),
            Credentials.job_id.is_(None),
            is_unclaimed(Credentials),
            Credentials.not_before <= now_ms(),
        )
        .order_by(Credentials.not_before, Credentials.id)
    )


def _due_callbacks(backends: Collection[str]) -> Select[int, str]:
    return due_callbacks().where(Job.backend.in_(backends))
