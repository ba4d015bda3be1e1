"""Forgets finished jobs, dropped credentials and events when they are old."""

import structlog
from sqlalchemy import delete, select

from provisioning.installation import Installation
from provisioning.state.database import now_ms
from provisioning.state.models import Callback, Credentials, Event, Job

log = structlog.get_logger()

#: Jobs, and credentials, that one sweep forgets: few, since it holds up the writes of others,
#: and the next sweep follows in seconds.
BATCH = 100
#: A job has up to a dozen events or so, which are small.
EVENT_BATCH = 10 * BATCH


def forget_old(installation: Installation) -> int:
    """Delete a batch of what has been over for longer than it is kept; return the rows.

    Several sweeps at once may find the same rows; one of them deletes each.
    """
    forgotten = 0
    # Unfinished jobs and live credentials have no end.
    jobs, events = installation.config.job_retention, installation.config.event_retention
    for model, end, seconds, batch in (
        (Job, Job.ended_at, jobs, BATCH),
        (Credentials, Credentials.dropped_at, jobs, BATCH),
        (Event, Event.time, events, EVENT_BATCH),
    ):
        if seconds is None:
            continue
        old = select(model.id).where(end < now_ms() - seconds * 1000).order_by(end).limit(batch)
        with installation.database.read() as session:
            found = sorted(session.scalars(old))
        if not found:
            continue
        with installation.database.write() as session:
            if model is Job:
                session.execute(delete(Callback).where(Callback.id.in_(found)))
            session.execute(delete(model).where(model.id.in_(found)))
        log.info("forgotten", table=model.__tablename__, rows=len(found))
        forgotten += len(found)
    return forgotten
