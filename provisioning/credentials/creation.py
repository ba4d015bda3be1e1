"""Get or create: one live credential per token, backend and type (contract 6.1)."""

import time
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import bindparam, insert, literal_column, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Caller, Principal
from provisioning.backends.base import Backend, EngineError, Owner
from provisioning.backends.naming import person_name_part
from provisioning.configuration.backoff import Backoff
from provisioning.configuration.catalog import BackendRules
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import generate_password
from provisioning.credentials.expiry import retire
from provisioning.credentials.lifetime import expiry, shortened
from provisioning.credentials.passwords import lets_owner_in, mend
from provisioning.credentials.reading import CredentialsView, exists, view_of
from provisioning.credentials.reconcile import close_vanished, finish_creation
from provisioning.credentials.warnings import attend_at
from provisioning.installation import Installation
from provisioning.jobs.recording import slot_of
from provisioning.state.claims import ClaimLost, Lease, owner_name, take
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Login

log = structlog.get_logger()

#: Seconds between two looks at a row another process works on.
POLLING = Backoff(0.005, 0.5, 1.5)


@dataclass(frozen=True)
class NewCredentials:
    """A credential to be made, and for whom."""

    owner: Principal
    backend: Backend
    type: str
    #: The owner's own, as `backends.key_pairs` keeps it.
    public_key: str | None = None
    #: Seconds that it is to live; None is its full lifetime.
    ttl: int | None = None

    @property
    def slot(self) -> str:
        return slot_of(self.owner.token_id, self.backend.name, self.type)


def require_enabled(config: Config, rules: BackendRules, principal: Principal) -> None:
    """Raise ``BackendDisabled`` unless the project may use the backend (contract 5.5)."""
    refused = errors.BackendDisabled(rules.name, principal.project_id)
    feature = config.required_feature(rules.name)
    if feature and feature not in principal.features:
        raise refused
    if not config.project_flags_check or rules.project_flag is None:
        return
    if principal.flags.get(rules.project_flag, True):
        return
    if rules.project_feature is None or rules.project_feature not in principal.features:
        raise refused


def get_or_create(
    installation: Installation,
    caller: Caller,
    rules: BackendRules,
    type_: str,
    public_key: str | None = None,
    ttl: int | None = None,
) -> CredentialsView:
    """Return the caller's credential of the type, made now if there is none (contract 6.1).

    ``public_key`` is the caller's own, as `backends.key_pairs` keeps it; ``ttl`` are the
    seconds that a new one is to live, instead of its full lifetime. Raises
    ``ParameterInvalid`` when the credential has another one, ``QuotaExceeded`` when
    its project has no room for a new one, ``BackendUnavailable`` when no server can make it,
    ``BackendFull`` when none has room, and ``CreationInProgress`` after the creation limit,
    while the creation goes on.
    """
    backend = installation.backends.get(rules.name)
    if backend is None:
        raise errors.BackendUnavailable(rules.name, "no server is configured")
    wanted = NewCredentials(caller.principal, backend, type_, public_key, ttl)
    end = time.monotonic() + installation.config.creation_limit_seconds
    pauses = POLLING.pauses()
    while time.monotonic() < end:
        row, now = read_slot(installation, wanted.slot)
        if row is None:
            made = _create(installation, caller, wanted, now)
            if made is not None:
                row, warning = made
                view = view_of(installation, caller.principal, row, now)
                return replace(view, quota_warning=warning)
            continue
        if row.state is CredentialsState.ACTIVE:
            usable = _usable(installation, row, now)
            if usable is not None:
                _require_key(usable, public_key)
                return view_of(installation, caller.principal, usable, now)
            continue
        if _is_abandoned(row, now) and _take_over_creation(installation, row):
            continue
        # Another process is making it, or a delete of the last one is going on.
        time.sleep(next(pauses))
    raise errors.CreationInProgress(cause=f"the slot {wanted.slot} is taken")


def _usable(installation: Installation, row: Credentials, now: int) -> Credentials | None:
    """Return an active row that its owner can use, mended if need be; None if it is over."""
    if not _is_over(row, now) and lets_owner_in(installation, row):
        return row
    if not free_slot_unless_live(installation, row, now):
        return None
    try:
        return mend(installation, row)
    except errors.CredentialsNotFound:
        # Somebody removes it at this moment.
        return None


def _is_abandoned(row: Credentials, now: int) -> bool:
    """Return whether a row in the making seems to have lost its maker."""
    return row.state is CredentialsState.CREATING and (row.claim_until or 0) <= now


#: Built once: every create runs it. It returns the time, with or without a row.
_SLOT: Any = select(Credentials, literal_column("clock.now")).select_from(
    select(now_ms().label("now"))
    .subquery("clock")
    .outerjoin(Credentials, Credentials.slot == bindparam("slot"))
)


def read_slot(installation: Installation, slot: str) -> tuple[Credentials | None, int]:
    """Return the row in the slot, if any, and the database's time."""
    with installation.database.read() as session:
        row, now = session.execute(_SLOT, {"slot": slot}).one()
    return row, int(now)


def _is_over(row: Credentials, now: int) -> bool:
    return row.ends_at is not None and row.ends_at <= now


def free_slot_unless_live(installation: Installation, row: Credentials, now: int) -> bool:
    """Return whether an active row can be handed out; otherwise free its slot for a new one."""
    if _is_over(row, now):
        with installation.database.write() as session:
            retire(session, row)
        return False
    if exists(installation, row):
        return True
    log.info("credentials_vanished", credentials=row.id, server=row.server)
    with installation.database.write() as session:
        close_vanished(session, row)
    return False


def _require_key(row: Credentials, public_key: str | None) -> None:
    """Raise ``ParameterInvalid`` if the caller would wait in vain for its key to log in."""
    if public_key is not None and public_key != row.public_key:
        raise errors.ParameterInvalid(
            "publicKey",
            f"credentials {row.id} have another key or none; delete them first to use this one",
        )


def _create(
    installation: Installation,
    caller: Caller,
    wanted: NewCredentials,
    now: int,
) -> tuple[Credentials, str | None] | None:
    """Record the intent, then make the objects; return None when another one has the slot.

    The text is the warning of a soft limit, if there is one.
    """
    try:
        row, lease, warning = _record_intent(installation, caller, wanted, now)
    except IntegrityError:
        return None
    failpoint("create.intent")
    try:
        finish_creation(installation, row, lease, caller.run_id)
    except EngineError as problem:
        raise errors.BackendUnavailable(wanted.backend.name, str(problem.args[0])) from None
    except ClaimLost:
        # This process was paused too long; another one took over and finishes it.
        return None
    return row, warning


def _take_over_creation(installation: Installation, row: Credentials) -> bool:
    """Finish a creation whose process died; return False while somebody works on it."""
    with installation.database.write() as session:
        lease = take(session, Credentials, row.id, installation.config.claim_seconds)
        if lease is None:
            return False
        row = session.get_one(Credentials, row.id)
        if row.state is not CredentialsState.CREATING:
            lease.close(session)
            return True
    try:
        finish_creation(installation, row, lease)
    except EngineError as problem:
        raise errors.BackendUnavailable(row.backend, str(problem.args[0])) from None
    except ClaimLost:
        return False
    return True


_INTENT_COLUMNS = (
    "id",
    "backend",
    "type",
    "state",
    "slot",
    "project_id",
    "project_name",
    "token_id",
    "token_description",
    "server",
    "user_name",
    "object_name",
    "secret",
    "pending_secret",
    "public_key",
    "private_key",
    "login_id",
    "created_at",
    "touched_at",
    "expires_at",
    "attend_at",
    "claim_token",
    "claim_owner",
    "attempts",
    "not_before",
)
#: Built once: every create runs it. The claim runs from the moment of the insert.
_INTENT = insert(Credentials.__table__).values(  # type: ignore[arg-type]
    {name: bindparam(name) for name in _INTENT_COLUMNS}
    | {"claim_until": now_ms() + bindparam("claim_milliseconds")}
)


def _record_intent(
    installation: Installation,
    caller: Caller,
    wanted: NewCredentials,
    now: int,
) -> tuple[Credentials, Lease, str | None]:
    """Commit the row that names the objects to be made, already claimed by this process.

    ``now`` is the database's time. Raises ``IntegrityError`` when a row stands in the slot,
    ``QuotaExceeded``, and ``BackendUnavailable`` or ``BackendFull`` when no server takes the
    credential.
    """
    owner, backend = wanted.owner, wanted.backend
    person = person_name_part(owner.person_id, owner.token_id)
    shared = backend.shares_login(wanted.type)
    server = installation.loads.choose(
        backend.name,
        backend.placements(wanted.type),
        _server_of_person(installation, person) if shared else None,
    )
    row = new_row(installation, wanted, server, now)
    seconds = installation.config.claim_seconds
    start = time.monotonic()
    reserving = installation.quotas.reserving(owner, caller.run_id, backend.name, [wanted.slot])
    try:
        with reserving as reservation:
            if shared:
                login = _share_login(reservation.session, row, person)
                row.login_id, row.secret = login.id, login.secret
                row.pending_secret = login.pending_secret
            values = {name: getattr(row, name) for name in _INTENT_COLUMNS}
            values["claim_milliseconds"] = seconds * 1000
            reservation.session.connection().execute(_INTENT, values)
            failpoint("create.recording")
    except (IntegrityError, errors.QuotaExceeded):
        installation.loads.give_back(backend.name, server)
        raise
    return row, Lease(Credentials, row.id, 1, start + seconds), reservation.warning


def new_row(
    installation: Installation, wanted: NewCredentials, server: str, now: int
) -> Credentials:
    """Return an unsaved row with a new id, its objects' names and a password.

    It is as a first claim of this process leaves it, but for ``claim_until``.
    """
    owner, backend = wanted.owner, wanted.backend
    number = installation.numbers.take()
    names = Owner(owner.project_id, owner.token_id, owner.person_id, wanted.public_key)
    spec = backend.plan(installation.prefix, names, wanted.type, number, server)
    touched_at = now - now % 1000
    allowed = installation.config.lifetime(backend.name, wanted.type, owner.limits, server)
    row = Credentials(
        id=number,
        backend=backend.name,
        type=wanted.type,
        state=CredentialsState.CREATING,
        slot=wanted.slot,
        project_id=owner.project_id,
        project_name=owner.project_name,
        token_id=owner.token_id,
        token_description=owner.token_description,
        server=server,
        user_name=spec.user_name,
        object_name=spec.object_name,
        secret=installation.vault.encrypt(generate_password()),
        pending_secret=None,
        public_key=spec.public_key,
        private_key=installation.vault.encrypt(spec.private_key) if spec.private_key else None,
        login_id=None,
        created_at=now,
        touched_at=touched_at,
        expires_at=expiry(shortened(allowed, wanted.ttl), touched_at, now),
        claim_token=1,
        claim_owner=owner_name(),
        attempts=0,
        not_before=0,
    )
    row.attend_at = attend_at(installation.config, row, now)
    return row


def _server_of_person(installation: Installation, person: str) -> str | None:
    """Return where the person's login is; with several, the newest (the others are drained)."""
    query = select(Login.server).where(Login.person == person).order_by(Login.id.desc())
    with installation.database.read() as session:
        return session.scalars(query.limit(1)).first()


def _share_login(session: Session, row: Credentials, person: str) -> Login:
    """Return the person's login on the row's server, recorded now if there is none."""
    query = select(Login).where(Login.server == row.server, Login.person == person)
    known = session.scalars(query.with_for_update()).first()
    if known is not None:
        return known
    login = Login(
        id=row.id,
        server=row.server,
        person=person,
        user_name=row.user_name,
        secret=row.secret,
        pending_secret=None,
    )
    session.add(login)
    session.flush()
    return login
