"""/queue: the job records that clients poll (contract section 9)."""

import re
from typing import Any

from flask import Blueprint, Response, request

from api.requests import authenticate, cut_wait, installation, public_root, read_parameters
from api.responses import answer
from api.schemas import NoParameters
from api.waiting import wait, wake_worker
from provisioning import errors
from provisioning.jobs import COMPONENT, find_job, request_termination
from provisioning.models import Job
from provisioning.sandbox.creation import reveal_password
from provisioning.states import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.tokens import Principal
from provisioning.validity import format_time

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
    return answer(record(job, caller.principal))


@blueprint.post("/jobs/<id_>/kill")
def kill(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    job = request_termination(installation().database, caller.principal, id_)
    # A running job notices by itself; a message helps where its worker has died.
    wake_worker(job)
    return answer({"message": "job termination request accepted for processing"}, 202)


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


def record(job: Job, reader: Principal) -> dict[str, Any]:
    """Return the job record with all its keys (contract 9.1), as the reader may see it."""
    finished = job.status not in UNFINISHED_JOBS
    return {
        "id": job.id,
        "runId": job.run_id,
        "lockName": f"{COMPONENT}-{job.project_id}",
        "project": {"id": _number(job.project_id), "name": job.project_name},
        "token": {"id": job.token_id, "description": job.token_description},
        "component": COMPONENT,
        "command": str(job.command),
        "params": job.params,
        "result": _result(job, reader) if finished else {},
        "status": str(job.status),
        "process": {"host": job.process_host, "pid": job.process_pid},
        "createdTime": format_time(job.created_at),
        "startTime": format_time(job.started_at),
        "endTime": format_time(job.ended_at),
        "durationSeconds": _seconds(job.started_at, job.ended_at),
        "waitSeconds": _wait_seconds(job),
        "nestingLevel": job.run_id.count("."),
        "error": job.error if finished else None,
        "errorNote": job.error_note,
        "terminatedBy": job.terminated_by,
        "encrypted": None,
        "usage": [],
        "isFinished": finished,
        **_progress(job),
        "_index": None,
        "_type": "jobs",
        "url": job_url(job),
    }


def _progress(job: Job) -> dict[str, Any]:
    """Return the steps of a creation so far; other jobs have none."""
    if job.command is not JobCommand.CREATE:
        return {}
    return {"progress": [{**step, "time": format_time(step["time"])} for step in job.progress]}


def _result(job: Job, reader: Principal) -> dict[str, Any]:
    """Return the result; only the token that made a sandbox sees its password (9.1.4)."""
    credentials = job.result.get("credentials")
    if job.command is not JobCommand.CREATE or credentials is None:
        return job.result
    password = None
    if reader.token_id == job.token_id:
        password = reveal_password(installation(), job)
    if password is None:
        return job.result
    return {**job.result, "credentials": {**credentials, "password": password.reveal()}}


def _wait_seconds(job: Job) -> int | None:
    # Contract 9.1.7: a terminated job has none.
    if job.status is JobStatus.TERMINATED:
        return None
    return _seconds(job.created_at, job.started_at)


def _number(text: str) -> int | str:
    """Return a project id as the integer the record shows, unless it is none."""
    return int(text) if text.isascii() and text.isdigit() else text


def _seconds(start: int | None, end: int | None) -> int | None:
    if start is None or end is None:
        return None
    return max(end // 1000 - start // 1000, 0)
