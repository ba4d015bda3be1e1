"""Gives an orphan to an owner, with all that is in it and a new password.

What was made after a state was copied that is restored now is orphaned, and somebody may work
with it. It is made again as a half-made credential is finished, which keeps what is there. Should
that fail, it is an orphan as before: unlike after a failed creation, nothing is removed.
"""

from dataclasses import replace

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from provisioning import errors
from provisioning.access.tokens import Principal
from provisioning.backends.base import EngineRefused, Spec
from provisioning.configuration.catalog import backend_rules, require_type
from provisioning.credentials.creation import NewCredentials, new_row
from provisioning.credentials.reconcile import record_creation_event
from provisioning.credentials.specs import complete_spec_of, issued_columns
from provisioning.installation import Installation
from provisioning.orphans.report import OrphanReport
from provisioning.state.claims import Lease, take
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials

log = structlog.get_logger()


def adopt(
    installation: Installation, report: OrphanReport, number: int, owner: Principal, type_: str
) -> Credentials:
    """Make the orphan with the number a live credential of ``owner``, and return its row.

    Raises ``CredentialsNotFound`` when the report has no such orphan, and an ``EngineError`` when
    it cannot be made to work, or is not one that can change hands.
    """
    backend, spec = _find(report, number, type_)
    row, lease = _record(installation, backend, replace(spec, type=type_), owner)
    try:
        with installation.keeper.keep(lease):
            engine = installation.backends[backend]
            password = installation.vault.decrypt(row.secret)
            issued = engine.create(complete_spec_of(installation, row), password, lease)
    except Exception:
        with installation.database.write() as session:
            session.execute(
                delete(Credentials).where(
                    Credentials.id == row.id, Credentials.claim_token == lease.token
                )
            )
        raise
    with installation.database.write() as session:
        columns = issued_columns(installation, issued)
        lease.close(session, state=CredentialsState.ACTIVE, **columns)
        record_creation_event(session, row, "")
    log.info("orphan_adopted", credentials=row.id, backend=backend, project=owner.project_id)
    return row


def _find(report: OrphanReport, number: int, type_: str) -> tuple[str, Spec]:
    for found in report.orphans:
        spec = found.spec
        if spec is None or spec.credentials_id != number:
            continue
        rules = backend_rules(found.backend)
        require_type(rules, type_)
        if rules.asynchronous:
            raise EngineRefused("a sandbox of Docker would be made anew: it cannot be adopted")
        if spec.type not in ("", type_):
            raise EngineRefused(f"{found.object.name} is of type {spec.type}")
        if found.backend == "mysql" and type_ == "sandbox":
            raise EngineRefused("a MySQL sandbox belongs to a person's login: it stays with that")
        return found.backend, spec
    raise errors.CredentialsNotFound


def _record(
    installation: Installation, backend: str, spec: Spec, owner: Principal
) -> tuple[Credentials, Lease]:
    """Commit the row that names the orphan, claimed by this process for the second time.

    A first claim would take what is there for somebody else's.
    """
    engine = installation.backends[backend]
    with installation.database.read() as session:
        now = read_clock(session)
    row = new_row(installation, NewCredentials(owner, engine, spec.type), spec.server, now)
    row.id, row.user_name, row.object_name = spec.credentials_id, spec.user_name, spec.object_name
    try:
        with installation.database.write() as session:
            # The closed row that named it, if there is one.
            closed = delete(Credentials).where(
                Credentials.id == row.id, Credentials.state == CredentialsState.DROPPED
            )
            session.execute(closed)
            session.add(row)
            session.flush()
            lease = take(session, Credentials, row.id, installation.config.claim_seconds)
    except IntegrityError:
        raise EngineRefused("the token has one of this type, or the orphan an owner") from None
    if lease is None:
        raise EngineRefused("somebody else works on it")
    return row, lease
