"""The tasks: thin, because a message only says that a row may be due.

A message may be lost, repeated, late or out of order: each task claims the row first, and
does nothing when the row is not due.
"""

from functools import cache
from typing import Any

import structlog
from celery import Task
from celery.signals import worker_init

from provisioning import (
    callbacks,
    config,
    draining,
    endings,
    expiry,
    notices,
    orphans,
    reconcile,
    restores,
    retention,
    running,
)
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation
from provisioning.sandbox import ending
from provisioning.turns import next_after
from workers.app import app
from workers.clock import keep_clock, read_clock
from workers.messages import (
    backends_of,
    wake,
    wake_callback,
    wake_drain,
    wake_due,
    wake_endings,
)

log = structlog.get_logger()


@cache
def installation() -> Installation:
    """Return the process's installation, made at its start, before it acts on the state."""
    made = Installation(config.load())
    if made.database.is_current():
        restores.notice_restore(made, read_clock(made.code))
    return made


@worker_init.connect
def begin(**_: Any) -> None:
    """Make the installation before the first message, whose job need not wait for it."""
    try:
        installation()
    except StateUnavailable:
        log.warning("state_unavailable", task="begin")


@app.task(name="job", bind=True)
def run_job(self: Task, job_id: int) -> None:
    """Run the due job whose turn it is, then wake one that waited for its end."""
    backends = backends_of(self.request.delivery_info["routing_key"])
    try:
        job = running.run_job(installation(), job_id, backends)
        if job is None:
            return
        following = next_after(installation().database, job)
        if following is not None:
            wake(*following)
        if callbacks.is_due(installation(), job.id):
            wake_callback(job.id, job.backend)
    except StateUnavailable:
        # The claim runs out and the sweep brings the job back.
        log.warning("state_unavailable", task="job", job=job_id)


@app.task(name="credentials")
def resume_credentials(credentials_id: int) -> None:
    """Finish a creation or removal whose process died."""
    try:
        reconcile.resume(installation(), credentials_id)
    except StateUnavailable:
        log.warning("state_unavailable", task="credentials", credentials=credentials_id)


@app.task(name="callback")
def send_callback(job_id: int) -> None:
    """Tell of a job's end."""
    try:
        callbacks.deliver(installation(), job_id)
    except StateUnavailable:
        log.warning("state_unavailable", task="callback", job=job_id)


@app.task(name="drain")
def drain(backend: str, server: str, size: int) -> None:
    """Remove a batch of what has expired on a server, and have somebody go on with it."""
    try:
        following = draining.drain(installation(), backend, server, size)
    except StateUnavailable:
        log.warning("state_unavailable", task="drain", backend=backend, server=server)
        return
    if following is not None:
        wake_drain(backend, server, following)


@app.task(name="sweep")
def sweep() -> None:
    """Send messages for what is due, and forget what is old."""
    try:
        code = installation().code
        restores.notice_restore(installation(), read_clock(code))
        wake_due(expiry.sweep(installation()), installation().lanes.width)
        keep_clock(code, restores.last_sweep(installation().database))
        retention.forget_old(installation())
    except StateUnavailable:
        log.warning("state_unavailable", task="sweep")


@app.task(name="warnings")
def warn() -> None:
    """Warn of the ends that are near, and send messages for what is to be done about them."""
    try:
        wake_endings(endings.take_due(installation()))
    except StateUnavailable:
        log.warning("state_unavailable", task="warnings")


@app.task(name="notice")
def send_notice(notice_id: int) -> None:
    """Tell the operator's server of a credential's end."""
    try:
        notices.deliver(installation(), notice_id)
    except StateUnavailable:
        log.warning("state_unavailable", task="notice", notice=notice_id)


@app.task(name="ending")
def attend_sandbox(credentials_id: int) -> None:
    """Look after a sandbox that is about to end."""
    try:
        ending.attend(installation(), credentials_id)
    except StateUnavailable:
        log.warning("state_unavailable", task="ending", credentials=credentials_id)


@app.task(name="orphans")
def check_orphans() -> None:
    """Tell operators where the servers and the state do not agree."""
    try:
        orphans.check(installation())
    except StateUnavailable:
        log.warning("state_unavailable", task="orphans")
