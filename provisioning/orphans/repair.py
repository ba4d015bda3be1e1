"""Repairs what the orphan report found, by the ordinary ways: rows, claims and drops.

An orphan is adopted to be removed: a row in ``dropping`` that names it is committed, or the
closed row that named it is opened again, and then it is any removal. So a crash leaves a row
that the sweep finishes, and its worker holds the claim and the engine's lock.

Between the report and the row somebody may have come: the row is recorded only if no live row
names the same object then, and a name with a number in it is never given again. A shared login
may be wanted again at that moment; its removal takes the login's lock on the server, and drops
it only if it has no grant.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning.backends.base import Owner, Spec
from provisioning.configuration.catalog import backend_rules
from provisioning.credentials.reconcile import close_vanished, forget_unused_login, resume
from provisioning.installation import Installation
from provisioning.orphans.comparison import is_of, job_is_over, rows_by_id
from provisioning.orphans.report import OrphanReport, UnnamedObject
from provisioning.state.database import read_clock
from provisioning.state.enums import EXISTING_CREDENTIALS, CredentialsState
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.models import Credentials

#: Removals at once. Each server has its own bound besides.
AT_ONCE = 8
#: Seconds to wait for workers that were faster, and between two looks.
PATIENCE, PAUSE = 10.0, 0.1


@dataclass(frozen=True)
class RepairOutcome:
    """What became of it."""

    #: Rows of orphans and ghosts that are closed now.
    removed: int
    #: Those that the sweep goes on with: their ids, and why they could not be removed yet.
    waiting: dict[int, str]


def removable(installation: Installation, report: OrphanReport) -> list[UnnamedObject]:
    """Return the orphans that are removed: none where nothing but a form tells them."""
    return report.orphans if installation.prefix else []


def repair(installation: Installation, report: OrphanReport) -> RepairOutcome:
    """Remove orphans, close ghosts, and free rows that are stuck behind a job that is over."""
    numbers = _close_ghosts(installation, report)
    # A credential's parts lead to the same spec: one row removes them all.
    wanted = {(one.backend, one.spec): None for one in removable(installation, report) if one.spec}
    for backend, spec in wanted:
        number = _adopt(installation, backend, spec)
        if number is not None:
            numbers.append(number)
    numbers += _free_stuck(installation, report)
    with installation.database.write() as session:
        for lost in report.logins:
            if not lost.used:
                forget_unused_login(session, lost.login.id)
    with ThreadPoolExecutor(AT_ONCE) as executor:
        list(executor.map(lambda number: resume(installation, number), numbers))
    return _outcome(installation, numbers)


def _close_ghosts(installation: Installation, report: OrphanReport) -> list[int]:
    with installation.database.write() as session:
        return [one.row.id for one in report.ghosts if close_vanished(session, one.row)]


def _free_stuck(installation: Installation, report: OrphanReport) -> list[int]:
    """Let the sweep have rows whose job is over, and end the pause of the others."""
    numbers = [one.row.id for one in report.stuck]
    stuck = update(Credentials).where(
        Credentials.id.in_(numbers), Credentials.state != CredentialsState.ACTIVE
    )
    with installation.database.write() as session:
        # The caller of what is half made has its error already.
        unmade = stuck.where(job_is_over(), Credentials.state == CredentialsState.CREATING)
        session.execute(unmade.values(state=CredentialsState.DROPPING, slot=None))
        session.execute(stuck.where(job_is_over()).values(job_id=None))
        session.execute(stuck.where(Credentials.job_id.is_(None)).values(not_before=0))
    return numbers


# Orphans --------------------------------------------------------------------------------


def _adopt(installation: Installation, backend: str, spec: Spec) -> int | None:
    """Record that an orphan is to be removed, and return the row's id; None if it has an owner."""
    if not spec.credentials_id:
        spec = _numbered(installation, backend, spec)
    with suppress(IntegrityError), installation.database.write() as session:
        known = session.get(Credentials, spec.credentials_id)
        if (known is not None and not is_of(known, backend, spec)) or _has_owner(
            session, backend, spec
        ):
            return None
        if known is None:
            known = _new_row(backend, spec, read_clock(session))
            session.add(known)
        # A grant may have been left to another login than the row's.
        known.user_name = spec.user_name or known.user_name
        known.state, known.dropped_at = CredentialsState.DROPPING, None
        known.attempts, known.not_before, known.failure = 0, 0, "orphan"
        session.flush()
        record_credentials_event(session, Action.ORPHANED, known)
        return known.id
    return None


def _numbered(installation: Installation, backend: str, spec: Spec) -> Spec:
    """Return the spec of a shared login with a new number, and an object that never was."""
    number, owner = installation.numbers.take(), Owner("0", "0", None)
    planned = installation.backends[backend].plan(
        installation.prefix, owner, spec.type, number, spec.server
    )
    return replace(planned, user_name=spec.user_name)


def _has_owner(session: Session, backend: str, spec: Spec) -> bool:
    named = func.lower(Credentials.object_name) == spec.object_name.lower()
    query = select(Credentials.id).where(
        Credentials.state.in_(EXISTING_CREDENTIALS), Credentials.backend == backend, named
    )
    return session.scalars(query.limit(1)).first() is not None


def _new_row(backend: str, spec: Spec, now: int) -> Credentials:
    """Return the row of a credential that is nobody's."""
    return Credentials(
        id=spec.credentials_id,
        backend=backend,
        type=spec.type or backend_rules(backend).default_type,
        slot=None,
        project_id="",
        project_name="",
        token_id="",
        token_description="orphan",
        server=spec.server,
        user_name=spec.user_name,
        object_name=spec.object_name,
        secret="",
        created_at=now,
        touched_at=now - now % 1000,
    )


# The end --------------------------------------------------------------------------------


def _outcome(installation: Installation, numbers: Sequence[int]) -> RepairOutcome:
    """Look what became of the rows; what a worker has taken up by itself is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = rows_by_id(installation.database, numbers).values()
        rows = [row for row in found if row.state in EXISTING_CREDENTIALS]
        if all(row.claim_until is None for row in rows) or time.monotonic() > deadline:
            break
        time.sleep(PAUSE)
    waiting = {row.id: row.failure or "somebody works on it" for row in rows}
    return RepairOutcome(len(numbers) - len(waiting), waiting)
