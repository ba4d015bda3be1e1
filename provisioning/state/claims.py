"""Claims: one process at a time works on a row, and one that falls silent is replaced.

A claim is a line in the row (`models.Claim`) that runs out unless renewed. Each taking
raises the fencing token, and every write of the holder names its token, so a holder that
was paused and replaced changes nothing in the state. Towards the engines the lease is
checked behind the engine's own lock (see `backends.base`).
"""

import os
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import structlog
from sqlalchemy import ClauseElement, Update, bindparam, select, update
from sqlalchemy.orm import Session

from provisioning.errors import StateUnavailable
from provisioning.state.conditions import is_unclaimed
from provisioning.state.database import Database, now_ms
from provisioning.state.enums import JobStatus
from provisioning.state.models import AdminSecret, Callback, Credentials, Job, Login, Notice

log = structlog.get_logger()
Claimable = (
    type[Credentials] | type[Login] | type[Job] | type[Callback] | type[Notice] | type[AdminSecret]
)


class ClaimLost(Exception):
    """The claim ran out and may be another process's: stop, and write nothing."""


class Terminated(Exception):
    """Somebody killed the job: stop, and remove what it made."""


class WorkersLost(Exception):
    """The job was tried as often as it may be, and its last worker died of it."""


def owner_name() -> str:
    """Return how this process signs its claims."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}"


@cache
def _guarded_update(model: Claimable, columns: frozenset[str]) -> Update:
    """Return the update of some columns behind the fencing token.

    It is built once for each set of columns: building costs more than running it.
    """
    table = model.__table__
    return (
        update(table)  # type: ignore[arg-type]
        .where(table.c.id == bindparam("row_id"), table.c.claim_token == bindparam("row_token"))
        .values({name: bindparam(name) for name in columns})
    )


class Lease:
    """A claim this process holds, as far as it can know without asking the database."""

    def __init__(self, model: Claimable, row_id: int, token: int, runs_out: float) -> None:
        self.model = model
        self.row_id = row_id
        self.token = token
        #: Monotonic time, counted from before the claim was written: never later than the
        #: database's own ``claim_until``.
        self.runs_out = runs_out
        #: The job this is held for was killed.
        self.terminated = False

    def check(self) -> None:
        """Raise ``ClaimLost`` unless the claim certainly still holds; ``Terminated`` on a kill."""
        if time.monotonic() >= self.runs_out:
            raise ClaimLost
        if self.terminated:
            raise Terminated

    def write(self, session: Session, **values: Any) -> None:
        """Update the row in the caller's transaction; raise ``ClaimLost`` if it was replaced."""
        clauses = {k: v for k, v in values.items() if isinstance(v, ClauseElement)}
        plain = {k: v for k, v in values.items() if k not in clauses}
        statement = _guarded_update(self.model, frozenset(plain))
        if clauses:
            statement = statement.values(**clauses)
        keys = {"row_id": self.row_id, "row_token": self.token}
        if session.connection().execute(statement, {**plain, **keys}).rowcount != 1:
            raise ClaimLost

    def close(self, session: Session, **values: Any) -> None:
        """Write the outcome and give the claim back."""
        self.write(session, claim_until=None, **values)


def close_all(session: Session, model: Claimable, ids: Collection[int], **values: Any) -> None:
    """Do what `Lease.close` does for rows that the caller's transaction has locked and checked."""
    session.connection().execute(
        update(model).where(model.id.in_(ids)).values(claim_until=None, **values)
    )


def take(session: Session, model: Claimable, row_id: int, seconds: int) -> Lease | None:
    """Claim a row in the caller's transaction; return None while another one holds it."""
    start = time.monotonic()
    statement = (
        update(model)
        .where(model.id == row_id, is_unclaimed(model))
        .values(
            claim_token=model.claim_token + 1,
            claim_owner=owner_name(),
            claim_until=now_ms() + seconds * 1000,
        )
    )
    if session.connection().execute(statement).rowcount != 1:
        return None
    token = session.execute(select(model.claim_token).where(model.id == row_id)).scalar_one()
    return Lease(model, row_id, token, start + seconds)


class Keeper:
    """Renews the leases of work that takes longer than a third of a claim."""

    def __init__(self, database: Database, seconds: int) -> None:
        self._database = database
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: dict[Lease, float] = {}
        #: The leases that end with a job, by its id.
        self._jobs: dict[int, tuple[Lease, ...]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep_until_killed(self, job: Lease, *leases: Lease) -> Iterator[None]:
        """Keep the leases alive while the block runs; their checks raise when the job is killed."""
        with self._lock:
            self._jobs[job.row_id] = (job, *leases)
        try:
            with self.keep(job, *leases):
                yield
        finally:
            with self._lock:
                del self._jobs[job.row_id]
                for lease in (job, *leases):
                    lease.terminated = False

    @contextmanager
    def keep(self, *leases: Lease) -> Iterator[None]:
        """Keep the leases alive while the block runs."""
        renew_at = time.monotonic() + self._seconds / 3
        with self._lock:
            self._held.update(dict.fromkeys(leases, renew_at))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="claims", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                for lease in leases:
                    self._held.pop(lease, None)

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds / 6)
            with self._lock:
                due = [lease for lease, at in self._held.items() if at <= time.monotonic()]
                jobs = list(self._jobs)
            for lease in due:
                self._renew(lease)
            if jobs:
                self._tell_killed(jobs)

    def _tell_killed(self, jobs: list[int]) -> None:
        query = select(Job.id).where(Job.id.in_(jobs), Job.status == JobStatus.TERMINATING)
        try:
            with self._database.read() as session:
                killed = session.scalars(query).all()
        except StateUnavailable:
            return
        with self._lock:
            for job_id in killed:
                for lease in self._jobs.get(job_id, ()):
                    lease.terminated = True

    def _renew(self, lease: Lease) -> None:
        start = time.monotonic()
        try:
            with self._database.write() as session:
                lease.write(session, claim_until=now_ms() + self._seconds * 1000)
        except ClaimLost:
            lease.runs_out = 0.0
        except StateUnavailable:
            # It runs out by itself unless the database is back before.
            log.warning("claim_not_renewed", table=lease.model.__tablename__, id=lease.row_id)
        else:
            lease.runs_out = start + self._seconds
            with self._lock:
                if lease in self._held:
                    self._held[lease] = start + self._seconds / 3
