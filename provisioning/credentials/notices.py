"""Tells the operator's server that a credential is about to end: one signed POST for each lead.

The row is the queue, as for callbacks. It goes when its message is taken or given up, or when
the credential does not end then any more.
"""

import structlog
from sqlalchemy import delete
from sqlalchemy.orm import Session

from provisioning.credentials.warnings import due_notices, is_extendable
from provisioning.installation import Installation
from provisioning.jobs.callbacks import RETRIES, send
from provisioning.state.claims import ClaimLost, Lease, take
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Notice

log = structlog.get_logger()


def deliver(installation: Installation, notice_id: int) -> None:
    """Try a due notice once."""
    with installation.database.write() as session:
        if session.execute(due_notices().where(Notice.id == notice_id)).first() is None:
            return
        lease = take(session, Notice, notice_id, installation.config.claim_seconds)
        if lease is None:
            return
        notice = session.get_one(Notice, notice_id)
        row = session.get(Credentials, notice.credentials_id)
        wanted = installation.config.warning_url.reveal()
        if row is None or not wanted or not _is_true(row, notice):
            _forget(session, lease)
            return
        now = read_clock(session)
    try:
        with installation.keeper.keep(lease):
            failure = _try(installation, row, notice, now)
        _settle(installation, row, notice, lease, failure)
    except ClaimLost:
        log.warning("claim_lost", notice=notice_id)


def _is_true(row: Credentials, notice: Notice) -> bool:
    """Return whether the credential still ends when the notice says."""
    return row.state is CredentialsState.ACTIVE and row.ends_at == notice.ends_at


def _try(installation: Installation, row: Credentials, notice: Notice, now: int) -> str | None:
    """Send the message; return why it was not taken, for operators."""
    config = installation.config
    content = {
        "event": str(Action.EXPIRING),
        "id": row.id,
        "backend": row.backend,
        "type": row.type,
        "project": row.project_id,
        "token": row.token_id,
        "expiration": format_time(row.ends_at),
        "leadSeconds": notice.lead,
        "canExtend": is_extendable(config, row, now),
    }
    return send(config, config.warning_url.reveal(), content, now // 1000)


def _settle(
    installation: Installation,
    row: Credentials,
    notice: Notice,
    lease: Lease,
    failure: str | None,
) -> None:
    longest = installation.config.callback_retry_seconds * 1000
    with installation.database.write() as session:
        if failure is None:
            _forget(session, lease)
            record_credentials_event(session, Action.WARNING_TAKEN, row)
        elif read_clock(session) - notice.created_at > longest:
            _forget(session, lease)
            record_credentials_event(session, Action.WARNING_GIVEN_UP, row, failure=failure)
        else:
            pause = RETRIES.after(notice.attempts)
            later = {"attempts": notice.attempts + 1, "not_before": now_ms() + pause * 1000}
            lease.close(session, **later, failure=failure)
    if failure is not None:
        log.warning("warning_failed", credentials=row.id, failure=failure)


def _forget(session: Session, lease: Lease) -> None:
    # The claim decides, as for any other outcome.
    lease.close(session)
    session.execute(delete(Notice).where(Notice.id == lease.row_id))
