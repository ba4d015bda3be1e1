"""/queue/job/{id}/stream: a job's events as they happen, as server-sent events."""

import json
import time
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from api.event_records import event_record
from api.job_answers import job_url
from api.queries import read_after
from api.requests import authenticate, installation, read_parameters
from api.schemas import NoParameters
from api.waiting import WaitingRoom, waiting_room
from provisioning.configuration.backoff import Backoff
from provisioning.errors import StateUnavailable
from provisioning.jobs.reading import find_job
from provisioning.state.database import Database
from provisioning.state.enums import UNFINISHED_JOBS
from provisioning.state.events import PAGE, Action, progress_of_job
from provisioning.state.formats import read_id

blueprint = Blueprint("job_stream", __name__, url_prefix="/queue")

#: Seconds between two looks at the job: it starts here, and grows while nothing happens.
POLLING = Backoff(0.05, 0.5, 1.5)
#: Proxies cut connections that are silent for longer, in seconds. It also shows that the
#: caller has gone: until then it keeps its thread.
KEEP_ALIVE = 10
#: Milliseconds until a caller whose stream ended comes back.
RETRY = 1000


@blueprint.get("/job/<id_>/stream")
@blueprint.get("/jobs/<id_>/stream")
def stream(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    # Callers that cannot send the header across origins name the event in the address.
    after = read_id(request.headers.get("Last-Event-ID", "").strip()) or read_after(request.args)
    job = find_job(installation().database, caller.principal.project_id, id_)
    seconds = installation().config.stream_seconds
    room = waiting_room()
    leave = room.hold_stream(caller)
    body = _follow(room, installation().database, job.id, job_url(job.id), after, seconds)
    # Without the header some proxies collect the whole stream before they pass it on.
    response = Response(body, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
    response.call_on_close(leave)
    return response


def _follow(
    room: WaitingRoom, database: Database, job_id: int, url: str, after: int, seconds: float
) -> Iterator[str]:
    """Yield the events after ``after`` until the job is finished or ``seconds`` have passed.

    A process that stops ends it before: the caller comes back, to another one.
    """
    end, heard, pauses = time.monotonic() + seconds, time.monotonic(), POLLING.pauses()
    yield f"retry: {RETRY}\n\n"
    while True:
        try:
            status, events = progress_of_job(database, job_id, after)
        except StateUnavailable:
            # The caller comes back, to a front that may know more.
            return
        for event in events:
            after = event.id
            kind = "progress" if event.action == Action.JOB_STEP else "status"
            yield _message(kind, after, event_record(event))
        if status not in UNFINISHED_JOBS and len(events) < PAGE:
            yield _message("end", after, {"id": job_id, "status": status, "url": url})
            return
        now = time.monotonic()
        if now >= end or room.streams_ended:
            return
        if events:
            heard, pauses = now, POLLING.pauses()
        elif now - heard >= KEEP_ALIVE:
            heard = now
            yield ": keep-alive\n\n"
        time.sleep(min(next(pauses), end - now))


def _message(kind: str, id_: int, data: dict[str, Any]) -> str:
    return f"id: {id_}\nevent: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
