"""The tasks: thin, because a message only says that a row may be due.

A message may be lost, repeated, late or out of order: each task claims the row first, and
does nothing when the row is not due.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import structlog
from celery import Task
from celery.signals import worker_init

from provisioning.background import expiry, job_runner, retention
from provisioning.background.sweep import sweep as find_due
from provisioning.configuration import config
from provisioning.credentials import notices, reconcile, warnings
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation, build_installation
from provisioning.jobs import callbacks
from provisioning.jobs.scheduling import next_after
from provisioning.orphans import comparison, restore
from provisioning.sandbox import grace
from provisioning.state import failpoints
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
    settings = config.load()
    failpoints.watch(settings.provisioning_failpoints)
    made = build_installation(settings)
    if made.database.is_current():
        restore.notice_restore(made, read_clock(made.code))
    return made


@contextmanager
def state_needed(task: str, **where: Any) -> Iterator[None]:
    """Log that the state database was away, and no more: a sweep finds what was not done."""
    try:
        yield
    except StateUnavailable:
        log.warning("state_unavailable", task=task, **where)


@worker_init.connect
def begin(**_: Any) -> None:
    """Make the installation before the first message, whose job need not wait for it."""
    with state_needed("begin"):
        installation()


@app.task(name="job", bind=True)
def run_job(self: Task, job_id: int) -> None:
    """Run the due job whose turn it is, then wake one that waited for its end."""
    backends = backends_of(self.request.delivery_info["routing_key"])
    with state_needed("job", job=job_id):
        job = job_runner.run_job(installation(), job_id, backends)
        if job is None:
            return
        following = next_after(installation().database, job)
        if following is not None:
            wake(*following)
        if callbacks.is_due(installation(), job.id):
            wake_callback(job.id, job.backend)


@app.task(name="credentials")
def resume_credentials(credentials_id: int) -> None:
    """Finish a creation or removal whose process died."""
    with state_needed("credentials", credentials=credentials_id):
        reconcile.resume(installation(), credentials_id)


@app.task(name="callback")
def send_callback(job_id: int) -> None:
    """Tell of a job's end."""
    with state_needed("callback", job=job_id):
        callbacks.deliver(installation(), job_id)


@app.task(name="drain")
def drain(backend: str, server: str, size: int) -> None:
    """Remove a batch of what has expired on a server, and have somebody go on with it."""
    with state_needed("drain", backend=backend, server=server):
        following = expiry.drain(installation(), backend, server, size)
        if following is not None:
            wake_drain(backend, server, following)


@app.task(name="sweep")
def sweep() -> None:
    """Send messages for what is due, and forget what is old."""
    with state_needed("sweep"):
        code = installation().code
        wake_due(find_due(installation(), read_clock(code)), installation().batch_slots.width)
        keep_clock(code, restore.last_sweep(installation().database))
        retention.forget_old(installation())


@app.task(name="warnings")
def warn() -> None:
    """Warn of the ends that are near, and send messages for what is to be done about them."""
    with state_needed("warnings"):
        wake_endings(warnings.take_due(installation()))


@app.task(name="notice")
def send_notice(notice_id: int) -> None:
    """Tell the operator's server of a credential's end."""
    with state_needed("notice", notice=notice_id):
        notices.deliver(installation(), notice_id)


@app.task(name="ending")
def attend_sandbox(credentials_id: int) -> None:
    """Look after a sandbox that is about to end."""
    with state_needed("ending", credentials=credentials_id):
        grace.attend(installation(), credentials_id)


@app.task(name="orphans")
def check_orphans() -> None:
    """Tell operators where the servers and the state do not agree."""
    with state_needed("orphans"):
        comparison.log_orphans(installation())
