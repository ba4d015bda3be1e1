"""The tasks: thin, because a message only says that a row may be due.

A message may be lost, repeated, late or out of order: each task claims the row first, and
does nothing when the row is not due.
"""

from functools import cache

import structlog

from provisioning import config, expiry, reconcile, running
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation
from provisioning.jobs import next_in_slot
from workers.app import app
from workers.messages import wake, wake_credentials

log = structlog.get_logger()


@cache
def installation() -> Installation:
    """Return the process's installation, made at its first task."""
    return Installation(config.load())


@app.task(name="job")
def run_job(job_id: int) -> None:
    """Run a due job, then wake the one that waited for it."""
    try:
        job = running.run_job(installation(), job_id)
        if job is None:
            return
        following = next_in_slot(installation().database, job)
        if following is not None and following != job_id:
            wake(following, job.backend)
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


@app.task(name="sweep")
def sweep() -> None:
    """Retire what has expired and send a message for everything that is due."""
    try:
        due = expiry.sweep(installation())
    except StateUnavailable:
        log.warning("state_unavailable", task="sweep")
        return
    for job_id, backend in due.jobs:
        wake(job_id, backend)
    for credentials_id, backend in due.credentials:
        wake_credentials(credentials_id, backend)
