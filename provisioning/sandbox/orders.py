"""Orders of sandboxes: recorded as jobs, and the passwords that the jobs' owners read then."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from sqlalchemy import select

from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.configuration.catalog import BackendRules
from provisioning.configuration.secrets import Secret
from provisioning.installation import Installation
from provisioning.jobs.backlog import require_queue_space
from provisioning.jobs.callbacks import CallbackOrder, record_callback
from provisioning.jobs.idempotency import SentKey, record_key
from provisioning.jobs.recording import parallel_limit_of, record_creation, slot_of, take_numbers
from provisioning.sandbox.request import (
    SandboxRequest,
    TransformationRequest,
    job_params,
    read_request,
)
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Job

log = structlog.get_logger()

#: In the slot of a transformation: its type is in its row, which the worker reads.
TRANSFORMATION = "transformation"


def request_sandbox(
    installation: Installation,
    caller: Caller,
    rules: BackendRules,
    request: SandboxRequest | TransformationRequest,
    callback: CallbackOrder | None = None,
    key: SentKey | None = None,
) -> tuple[Job, str | None]:
    """Record the job that creates a sandbox (contract 8.1, 8.2), and where its end is announced.

    The text is the warning of a soft limit, if there is one. Raises ``BackendUnavailable``
    without a server, ``QueueFull``, ``TokenServiceUnavailable`` without numbers,
    ``QuotaExceeded``, and ``KeyTaken`` after a request with the same key; nothing is recorded then.
    """
    if rules.name not in installation.backends:
        raise errors.BackendUnavailable(rules.name, "no server is configured")
    type_ = request.type if isinstance(request, SandboxRequest) else TRANSFORMATION
    require_queue_space(installation, caller.principal.project_id)
    numbers = take_numbers(installation, caller)
    slots = [slot_of(caller.principal.token_id, rules.name, type_)]
    if type_ == TRANSFORMATION:
        # It may be given any that the caller has; if not, its worker looks for room.
        slots += [slot_of(caller.principal.token_id, rules.name, name) for name in rules.types]
    reserving = installation.quotas.reserving(caller.principal, caller.run_id, rules.name, slots)
    with reserving as reservation:
        has_room = reservation.is_new or type_ != TRANSFORMATION
        order = Order(request, caller.token, dict(caller.principal.limits), has_room)
        job = record_creation(
            reservation.session,
            caller,
            numbers,
            backend=rules.name,
            slot=slots[0],
            params=job_params(request),
            request=installation.vault.encrypt(order.sealed()),
            parallel_limit=parallel_limit_of(installation.config, caller.principal),
        )
        if callback is not None:
            record_callback(installation, reservation.session, job, callback)
        if key is not None:
            record_key(reservation.session, key, job)
    failpoint("creation.accepted")
    log.info("sandbox_requested", job=job.id, backend=rules.name, type=type_)
    return job, reservation.warning


@dataclass(frozen=True)
class Order:
    """What a creation needs beyond its job's row, kept encrypted until the job is finished."""

    request: SandboxRequest | TransformationRequest
    token: Secret
    #: The project's limits when it asked.
    limits: dict[str, int]
    #: Whether its project has room for a new one; else there may be none to be made.
    has_room: bool

    def sealed(self) -> Secret:
        """Return all of it as JSON."""
        values = {
            "request": self.request.to_json(),
            "token": self.token.reveal(),
            "limits": self.limits,
            "has_room": self.has_room,
        }
        return Secret(json.dumps(values))

    @classmethod
    def opened(cls, sealed: Secret) -> "Order":
        """Return what `sealed` was made from."""
        values = json.loads(sealed.reveal())
        request, token = read_request(values["request"]), Secret(values["token"])
        # Orders of the version before say nothing of room.
        return cls(request, token, values["limits"], values.get("has_room", True))


def reveal_passwords(installation: Installation, jobs: Iterable[Job]) -> dict[int, Secret]:
    """Return by job the password of what it created, unless that is dropped."""
    created = {job.id: job.credentials_id for job in jobs}
    if not created:
        return {}
    query = select(Credentials.id, Credentials.secret).where(
        Credentials.id.in_(set(created.values()))
    )
    with installation.database.read() as session:
        sealed = {row.id: row.secret for row in session.execute(query) if row.secret}
    opened = {id_: installation.vault.decrypt(secret) for id_, secret in sealed.items()}
    return {job_id: opened[id_] for job_id, id_ in created.items() if id_ in opened}
