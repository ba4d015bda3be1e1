"""Tells a caller's server that a job is finished: a signed POST, repeated until it is taken.

The row is the queue here too. It is written with the job, due from the job's end, claimed for
each try, and found by the sweep when its message is lost. So a server may get a message more
than once, and only servers that the operator allows get any.
"""

import hashlib
import hmac
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

import structlog
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.configuration.backoff import Backoff
from provisioning.configuration.config import Config
from provisioning.configuration.origins import Address, read_address
from provisioning.configuration.secrets import Secret
from provisioning.installation import Installation
from provisioning.state.claims import ClaimLost, Lease, take
from provisioning.state.conditions import is_unclaimed
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import UNFINISHED_JOBS, CallbackState
from provisioning.state.events import Action, record_job_event
from provisioning.state.models import Callback, Job

log = structlog.get_logger()

PARAMETER = "callbackUrl"
#: Seconds until a try is repeated.
RETRIES = Backoff(1, 600)


@dataclass(frozen=True)
class CallbackOrder:
    """Where to send the message, and the address of jobs to name in it, without the id."""

    url: Secret
    jobs_url: str


def read_callback_url(config: Config, text: str) -> Secret:
    """Return a URL that may be called; raise ``ParameterInvalid``."""
    try:
        origin = read_address(text).origin
    except ValueError as problem:
        raise errors.ParameterInvalid(PARAMETER, str(problem)) from None
    if origin not in config.callback_hosts:
        raise errors.ParameterInvalid(PARAMETER, "this host is not one that may be called")
    return Secret(text)


def record_callback(
    installation: Installation, session: Session, job: Job, order: CallbackOrder
) -> None:
    """Add the callback of a new job, in the caller's transaction."""
    session.add(
        Callback(
            id=job.id,
            state=CallbackState.OPEN,
            # Such addresses often have a key in them.
            url=installation.vault.encrypt(order.url),
            job_url=f"{order.jobs_url}{job.id}",
        )
    )


def due_callbacks() -> Select[int, str]:
    """Return the query for id and backend of jobs whose callback should be tried now."""
    return (
        select(Callback.id, Job.backend)
        .join(Job, Job.id == Callback.id)
        .where(
            Callback.state == CallbackState.OPEN,
            Job.status.not_in(UNFINISHED_JOBS),
            is_unclaimed(Callback),
            Callback.not_before <= now_ms(),
        )
        .order_by(Callback.not_before, Callback.id)
    )


def is_due(installation: Installation, job_id: int) -> bool:
    """Return whether the job has a callback to be tried now."""
    if not installation.config.callback_hosts:
        return False
    with installation.database.read() as session:
        return session.execute(due_callbacks().where(Callback.id == job_id)).first() is not None


def deliver(installation: Installation, job_id: int) -> None:
    """Try a due callback once."""
    with installation.database.write() as session:
        if session.execute(due_callbacks().where(Callback.id == job_id)).first() is None:
            return
        lease = take(session, Callback, job_id, installation.config.claim_seconds)
        if lease is None:
            return
        row, job = session.get_one(Callback, job_id), session.get_one(Job, job_id)
        now = read_clock(session)
    try:
        with installation.keeper.keep(lease):
            failure = _try(installation, row, job, now // 1000)
        _settle(installation, row, job, lease, failure)
    except ClaimLost:
        log.warning("claim_lost", callback=job_id)


def _try(installation: Installation, row: Callback, job: Job, now: int) -> str | None:
    """Send the message; return why it was not taken, for operators."""
    content = {"id": job.id, "status": job.status, "url": row.job_url}
    return send(installation.config, installation.vault.decrypt(row.url).reveal(), content, now)


def send(config: Config, url: str, content: dict[str, Any], now: int) -> str | None:
    """Post a signed message to an allowed address; return why it was not taken, for operators."""
    address = read_address(url)
    if address.origin not in config.callback_hosts:
        return f"{address.origin} is not in CALLBACK_HOSTS any more"
    body = json.dumps(content).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "provisioning",
        "X-Provisioning-Timestamp": str(now),
        "X-Provisioning-Signature": sign(config.callback_secret, now, body),
    }
    try:
        status = _post(address, body, headers, config.callback_timeout_seconds)
    except (OSError, HTTPException) as problem:
        return f"{address.origin}: {type(problem).__name__}"
    return None if 200 <= status < 300 else f"{address.origin}: status {status}"


def sign(secret: Secret, timestamp: int, body: bytes) -> str:
    """Return what proves that a message and its time are the service's."""
    text = f"{timestamp}.".encode() + body
    return "sha256=" + hmac.new(secret.reveal().encode(), text, hashlib.sha256).hexdigest()


def _post(address: Address, body: bytes, headers: dict[str, str], seconds: float) -> int:
    """Return the status of the answer; it follows no redirect and reads no proxy settings."""
    connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = connect(address.host, address.port, timeout=seconds)
    connection.connect()
    # The library's time-out starts anew with every byte.
    bound = threading.Timer(seconds, _hang_up, (connection.sock,))
    bound.start()
    try:
        connection.request("POST", address.path, body, headers)
        return connection.getresponse().status
    finally:
        bound.cancel()
        connection.close()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _settle(
    installation: Installation, row: Callback, job: Job, lease: Lease, failure: str | None
) -> None:
    longest = installation.config.callback_retry_seconds * 1000
    with installation.database.write() as session:
        if failure is None:
            lease.close(session, state=CallbackState.TAKEN, url="", failure=None)
            record_job_event(session, Action.CALLBACK_TAKEN, job)
        elif read_clock(session) - (job.ended_at or 0) > longest:
            lease.close(session, state=CallbackState.GIVEN_UP, url="", failure=failure)
            record_job_event(session, Action.CALLBACK_GIVEN_UP, job, failure=failure)
        else:
            pause = RETRIES.after(row.attempts)
            later = {"attempts": row.attempts + 1, "not_before": now_ms() + pause * 1000}
            lease.close(session, **later, failure=failure)
    if failure is not None:
        log.warning("callback_failed", job=job.id, failure=failure)
