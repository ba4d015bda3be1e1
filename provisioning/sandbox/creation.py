"""Creates sandboxes: the work of the jobs behind POST /provisioning/async/docker (contract 8)."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, cast

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning.access.tokens import Principal
from provisioning.backends.base import (
    Content,
    ContentRefused,
    EngineRefused,
    EngineUnavailable,
    PortTaken,
    SandboxBackend,
)
from provisioning.configuration.secrets import Sealed, Secret
from provisioning.credentials.creation import (
    NewCredentials,
    free_slot_unless_live,
    new_row,
    read_slot,
)
from provisioning.credentials.reconcile import (
    close_dropped,
    describe,
    drop_objects,
    record_creation_event,
    values_for_retry,
)
from provisioning.credentials.specs import spec_of
from provisioning.errors import BackendFull, BackendUnavailable, QuotaExceeded
from provisioning.installation import Installation
from provisioning.jobs.claiming import SLOT_BUSY, Claimed
from provisioning.jobs.outcomes import (
    close_job,
    internal_error,
    is_spent,
    is_terminating,
    record_delay,
    success,
    user_error,
)
from provisioning.jobs.recording import slot_of
from provisioning.sandbox.content import SandboxContent
from provisioning.sandbox.orders import Order
from provisioning.sandbox.transformation import make_plan
from provisioning.state.claims import ClaimLost, Lease, Terminated, WorkersLost
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState, JobStatus
from provisioning.state.events import Action, record_job_event
from provisioning.state.failpoints import failpoint
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials
from provisioning.storage.open import open_storage

log = structlog.get_logger()

#: Milliseconds until another look at a sandbox that somebody else makes or removes.
MEANWHILE = 300
#: Ports that are tried when something foreign listens on one.
PORT_TRIES = 5
#: Entries of progress that a job keeps, the newest.
PROGRESS_KEPT = 200


class _SlotBusy(Exception):
    """Somebody else works on the sandbox of this slot; the job waits for that."""


class Creation:
    """One step of a job that creates a sandbox: usually all of it."""

    def __init__(self, installation: Installation, claimed: Claimed) -> None:
        self._installation = installation
        self._job, self._lease = claimed.job, claimed.lease
        self._row, self._row_lease = claimed.row, claimed.row_lease
        self._progress = list(claimed.job.progress)

    def run(self) -> None:
        """Create the sandbox, or clean up after a creation that failed or was killed.

        Raises ``ClaimLost`` when another process took over.
        """
        if self._job.status is JobStatus.TERMINATING:
            self._give_up({})
        elif self._row is not None and self._row.state is CredentialsState.DROPPING:
            self._clean_up()
        else:
            self._try()

    def abandon(self, problem: WorkersLost) -> None:
        """End a creation that no worker survives; what it made is removed as often again.

        After that the removal is left to the sweep.
        """
        cleaning = self._row is not None and self._row.state is CredentialsState.DROPPING
        if self._job.status is not JobStatus.TERMINATING and not cleaning:
            self._give_up(internal_error(problem, describe(problem)))
        elif self._job.attempts <= 2 * self._installation.config.job_attempts:
            self.run()
        else:
            self._leave_to_sweep(describe(problem))

    def _try(self) -> None:
        try:
            self._create()
        except ClaimLost:
            raise
        except Terminated:
            self._give_up({})
        except _SlotBusy:
            self._wait_meanwhile()
        except ContentRefused as problem:
            self._give_up(user_error(str(problem), f"content: {problem}"))
        except QuotaExceeded as problem:
            self._give_up(user_error(problem.message, problem.message))
        except EngineRefused as problem:
            self._give_up(user_error(describe(problem), describe(problem)))
        except Exception as problem:
            self._retry_or_give_up(problem)

    # Making ---------------------------------------------------------------------------

    def _create(self) -> None:
        with self._installation.keeper.keep_until_killed(self._lease):
            self._report("prepare", 1, "Reading what is asked for")
            order = self._open_order()
            config, run_id, check = self._installation.config, self._job.run_id, self._lease.check
            storage = open_storage(config, order.token, run_id, check)
            plan = make_plan(order.request, storage)
            if self._row is None:
                existing = self._find_existing(plan.type)
                if existing is not None:
                    self._settle_existing(existing)
                    return
                self._row, self._row_lease = self._record_intent(plan.type, order)
        failpoint("create.intent")
        row, lease = self._claimed_row()
        content = SandboxContent(
            plan, storage, run_id, Path(gettempdir()), check, config.content_limit_bytes
        )
        with self._installation.keeper.keep_until_killed(self._lease, lease):
            self._build(row, lease, content)
            content.mark_processed()
        with self._installation.database.write() as session:
            if is_terminating(session, self._job):
                raise Terminated
            lease.close(session, state=CredentialsState.ACTIVE, job_id=None, failure=None)
            record_creation_event(session, row, self._job.run_id)
            close_job(session, self._job, self._lease, **self._outcome(row))
        log.info("credentials_created", credentials=row.id, backend=row.backend, job=self._job.id)
        failpoint("create.active")

    def _open_order(self) -> Order:
        return Order.opened(self._installation.vault.decrypt(self._job.request or Sealed("")))

    def _claimed_row(self) -> tuple[Credentials, Lease]:
        if self._row is None or self._row_lease is None:
            raise ClaimLost
        return self._row, self._row_lease

    @property
    def _backend(self) -> SandboxBackend:
        try:
            return cast(SandboxBackend, self._installation.backends[self._job.backend])
        except KeyError:
            raise EngineUnavailable(f"backend {self._job.backend} is not configured") from None

    def _find_existing(self, type_: str) -> Credentials | None:
        """Return the caller's sandbox of the type, running, if there is one (contract 8.4.3)."""
        slot = slot_of(self._job.token_id, self._job.backend, type_)
        while True:
            row, now = read_slot(self._installation, slot)
            if row is None:
                return None
            if row.state is not CredentialsState.ACTIVE:
                raise _SlotBusy
            if free_slot_unless_live(self._installation, row, now):
                self._report("existing", 50, "There is a sandbox of this type already")
                self._backend.revive(spec_of(row))
                return row

    def _settle_existing(self, row: Credentials) -> None:
        with self._installation.database.write() as session:
            self._job.credentials_id = row.id
            outcome = {**self._outcome(row), "credentials_id": row.id}
            close_job(session, self._job, self._lease, **outcome)
        log.info("sandbox_returned", credentials=row.id, job=self._job.id)

    def _record_intent(self, type_: str, order: Order) -> tuple[Credentials, Lease]:
        """Commit the row that names what is to be made, claimed, with the job in charge."""
        installation, backend, job = self._installation, self._backend, self._job
        try:
            server = installation.loads.choose(backend.name, backend.placements(type_), None)
        except (BackendFull, BackendUnavailable) as problem:
            raise EngineUnavailable(f"backend {backend.name}: {problem.cause}") from None
        owner = Principal(
            job.token_id,
            job.token_description,
            job.project_id,
            job.project_name,
            limits=order.limits,
        )
        with installation.database.read() as session:
            now = read_clock(session)
        wanted = NewCredentials(owner, backend, type_, ttl=order.request.ttl)
        row = new_row(installation, wanted, server, now)
        row.port, row.job_id = self._free_port(server), job.id
        seconds = installation.config.claim_seconds
        start = time.monotonic()
        try:
            with self._reserving(owner, wanted.slot, order.has_room) as session:
                row.claim_until = read_clock(session) + seconds * 1000
                session.add(row)
                session.flush()
                self._lease.write(session, credentials_id=row.id, failure=None)
                failpoint("create.recording")
        except IntegrityError:
            # The slot or the port was taken at the same moment.
            raise _SlotBusy from None
        job.credentials_id = row.id
        return row, Lease(Credentials, row.id, 1, start + seconds)

    @contextmanager
    def _reserving(self, owner: Principal, slot: str, has_room: bool) -> Iterator[Session]:
        """Yield the transaction in which to take the slot; raise ``QuotaExceeded``."""
        if has_room:
            with self._installation.database.write() as session:
                yield session
            return
        job = self._job
        reserving = self._installation.quotas.reserving(
            owner, job.run_id, job.backend, [slot], job.id
        )
        with reserving as reservation:
            yield reservation.session

    def _free_port(self, server: str) -> int:
        """Return a port of the server that no other sandbox has."""
        query = select(Credentials.port).where(
            Credentials.server == server, Credentials.port.is_not(None)
        )
        with self._installation.database.read() as session:
            taken = set(session.scalars(query))
        free = [port for port in self._backend.ports(server) if port not in taken]
        if not free:
            raise EngineUnavailable(f"server {server}: no port is free")
        return random.choice(free)

    def _build(self, row: Credentials, lease: Lease, content: Content) -> None:
        password = self._installation.vault.decrypt(row.secret)
        for left in reversed(range(PORT_TRIES)):
            try:
                self._backend.build(spec_of(row), password, lease, content, self._report)
            except PortTaken:
                if not left:
                    raise
                self._move(row, lease)
            else:
                return

    def _move(self, row: Credentials, lease: Lease) -> None:
        """Give the sandbox another port."""
        port = self._free_port(row.server)
        try:
            with self._installation.database.write() as session:
                lease.write(session, port=port)
        except IntegrityError:
            raise _SlotBusy from None
        log.warning("port_taken", credentials=row.id, server=row.server, port=row.port)
        row.port = port

    def _report(self, step: str, percent: int, message: str) -> None:
        """Write a line of progress, which callers see in the job's record and events."""
        self._lease.check()
        if self._progress and self._progress[-1]["message"] == message:
            # A job that waits for its slot comes by here several times a second.
            return
        with self._installation.database.write() as session:
            entry = {
                "step": step,
                "percent": percent,
                "message": message,
                "time": read_clock(session),
            }
            self._progress = [*self._progress, entry][-PROGRESS_KEPT:]
            self._lease.write(session, progress=self._progress)
            detail = {"step": step, "percent": percent, "message": message}
            record_job_event(session, Action.JOB_STEP, self._job, detail=detail)

    def _outcome(self, row: Credentials) -> dict[str, Any]:
        """Return the values that end the job with a sandbox; the password stays in its row."""
        details = self._backend.describe(spec_of(row), Secret(""))
        del details["password"]
        return success(
            credentials={"id": row.id, **details},
            url=f"{row.backend}/{row.id}",
            touch=row.touched_at // 1000,
            expiration=format_time(row.expires_at),
        )

    # Ending badly ---------------------------------------------------------------------

    def _wait_meanwhile(self) -> None:
        later: dict[str, Any] = {
            "not_before": now_ms() + MEANWHILE,
            "attempts": self._job.attempts - 1,
        }
        if self._row is None:
            # What it waits for may be another job of the project, which needs the place.
            later |= {"status": JobStatus.WAITING, "place": None, "started_at": None}
        with self._installation.database.write() as session:
            self._lease.close(session, **later, failure=SLOT_BUSY)
            if self._job.failure != SLOT_BUSY:
                detail = {"attempt": self._job.attempts, "reason": SLOT_BUSY}
                record_job_event(session, Action.JOB_DELAYED, self._job, detail=detail)

    def _retry_or_give_up(self, problem: Exception) -> None:
        failure = describe(problem)
        with self._installation.database.write() as session:
            spent = is_spent(session, self._job, self._installation.config)
            if not spent:
                # The attempt was counted when the job was claimed.
                self._lease.close(session, **values_for_retry(self._job.attempts - 1, failure))
                record_delay(session, self._job, problem, failure)
                if self._row_lease is not None:
                    self._row_lease.close(session, failure=failure)
        if spent:
            self._give_up(internal_error(problem, failure))
        else:
            log.warning("job_delayed", job=self._job.id, failure=failure)

    def _give_up(self, outcome: dict[str, Any]) -> None:
        """Decide how the job ends, remove what was made, then end it (contract 8.4.4)."""
        log.warning("creation_failed", job=self._job.id, failure=outcome.get("failure", "killed"))
        if self._row is None or self._row_lease is None:
            with self._installation.database.write() as session:
                close_job(session, self._job, self._lease, **{**outcome, "status": JobStatus.ERROR})
            return
        with self._installation.database.write() as session:
            if outcome:
                self._lease.write(session, **outcome)
            self._row_lease.write(
                session,
                state=CredentialsState.DROPPING,
                slot=None,
                failure=outcome.get("failure", "killed"),
            )
            failure = outcome.get("failure")
            record_job_event(session, Action.JOB_UNDOING, self._job, failure=failure)
        failpoint("create.failed")
        self._clean_up()

    def _clean_up(self) -> None:
        """Remove what was made, then end the job as was decided before."""
        row, lease = self._claimed_row()
        try:
            drop_objects(self._installation, row, lease, self._lease)
        except ClaimLost:
            raise
        except Exception as problem:
            self._clean_up_later(row, lease, problem)
            return
        with self._installation.database.write() as session:
            close_dropped(session, row, lease)
            close_job(session, self._job, self._lease, status=JobStatus.ERROR)

    def _leave_to_sweep(self, failure: str) -> None:
        log.error("drop_left_to_sweep", job=self._job.id, failure=failure)
        with self._installation.database.write() as session:
            if self._row is not None and self._row_lease is not None:
                self._row_lease.close(
                    session,
                    state=CredentialsState.DROPPING,
                    slot=None,
                    job_id=None,
                    **values_for_retry(self._row.attempts, failure),
                )
                if self._row.state is CredentialsState.CREATING:
                    record_job_event(session, Action.JOB_UNDOING, self._job, failure=failure)
            close_job(session, self._job, self._lease, status=JobStatus.ERROR)

    def _clean_up_later(self, row: Credentials, lease: Lease, problem: Exception) -> None:
        """Try again, and after the time of a job leave the rest to the sweep."""
        failure = describe(problem)
        log.warning("drop_delayed", credentials=row.id, server=row.server, failure=failure)
        with self._installation.database.write() as session:
            if is_spent(session, self._job, self._installation.config):
                lease.close(session, job_id=None, **values_for_retry(row.attempts, failure))
                close_job(session, self._job, self._lease, status=JobStatus.ERROR)
            else:
                lease.close(session)
                self._lease.close(session, **values_for_retry(self._job.attempts - 1, failure))
                record_delay(session, self._job, problem, failure)
