"""/queue: the job records that clients poll (contract section 9)."""

import re
from typing import Any

from flask import Blueprint, Response, request

from api.requests import authenticate, cut_wait, installation, public_root, read_parameters
from api.responses import answer, format_time
from api.schemas import NoParameters
from api.waiting import wait
from provisioning import errors
from provisioning.jobs import COMPONENT, find_job
from provisioning.models import Job
from provisioning.states import UNFINISHED_JOBS

blueprint = Blueprint("queue", __name__, url_prefix="/queue")


@blueprint.get("/job/<id_>")
@blueprint.get("/jobs/<id_>")
def show(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    seconds = _read_wait()
    job = find_job(installation().database, caller.principal.project_id, id_)
    if seconds:
        job = wait(job, seconds)
    return answer(record(job))


def _read_wait() -> int:
    text = request.args.get("wait", "")
    if not text:
        return 0
    if not re.fullmatch("[0-9]+", text):
        raise errors.QueryInvalid("wait", "a number of seconds is expected")
    return cut_wait(text)


def accepted(job: Job, headers: dict[str, str] | None = None) -> Response:
    """Return the 202 of work that goes on (contract 7.3)."""
    body = {"id": job.id, "url": job_url(job), "status": str(job.status)}
    return answer(body, 202, headers)


def job_url(job: Job) -> str:
    """Return the absolute address of a job (contract 1.3)."""
    return f"{public_root()}/queue/job/{job.id}"


def record(job: Job) -> dict[str, Any]:
    """Return the job record with all its keys (contract 9.1)."""
    return {
        "id": job.id,
        "runId": job.run_id,
        "lockName": f"{COMPONENT}-{job.project_id}",
        "project": {"id": _number(job.project_id), "name": job.project_name},
        "token": {"id": job.token_id, "description": job.token_description},
        "component": COMPONENT,
        "command": str(job.command),
        "params": job.params,
        "result": job.result,
        "status": str(job.status),
        "process": {"host": job.process_host, "pid": job.process_pid},
        "createdTime": format_time(job.created_at),
        "startTime": format_time(job.started_at),
        "endTime": format_time(job.ended_at),
        "durationSeconds": _seconds(job.started_at, job.ended_at),
        "waitSeconds": _seconds(job.created_at, job.started_at),
        "nestingLevel": job.run_id.count("."),
        "error": job.error,
        "errorNote": job.error_note,
        "terminatedBy": None,
        "encrypted": None,
        "usage": [],
        "isFinished": job.status not in UNFINISHED_JOBS,
        "_index": None,
        "_type": "jobs",
        "url": job_url(job),
    }


def _number(text: str) -> int | str:
    """Return a project id as the integer the record shows, unless it is none."""
    return int(text) if text.isascii() and text.isdigit() else text


def _seconds(start: int | None, end: int | None) -> int | None:
    if start is None or end is None:
        return None
    return max(end // 1000 - start // 1000, 0)
