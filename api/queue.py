"""/queue: the job records that clients poll (contract section 9)."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from api.job_answers import job_url
from api.job_list import read_search, read_wait, wants_metrics
from api.requests import authenticate, installation, public_root, read_parameters
from api.responses import answer, answer_json, to_json
from api.schemas import NoParameters
from api.waiting import waiting_room, wake_worker
from provisioning.access.tokens import Principal
from provisioning.configuration.secrets import Secret
from provisioning.jobs.backlog import find_queue_position
from provisioning.jobs.outcomes import request_termination
from provisioning.jobs.reading import find_job
from provisioning.jobs.recording import COMPONENT
from provisioning.jobs.search.listing import list_jobs
from provisioning.sandbox.orders import reveal_passwords
from provisioning.state.enums import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.state.formats import format_time
from provisioning.state.models import Job

blueprint = Blueprint("queue", __name__, url_prefix="/queue")

#: Bytes of one list of jobs: a thousand ordinary ones.
LIST_BYTES = 3 * 512 * 1024


@blueprint.get("/jobs")
def show_all() -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    search = read_search(request.args, installation().database)
    project = caller.principal.project_id
    batches = list_jobs(installation().database, project, job_url(""), search)
    records = chain.from_iterable(_records(jobs, caller.principal) for jobs in batches)
    texts, last = _cut(records)
    body = b"".join((b"[", b",".join(texts), b"]"))
    return answer_json(body, headers=None if last is None else _next_page(last))


def _cut(records: Iterable[dict[str, Any]]) -> tuple[list[bytes], int | None]:
    """Return the first records as JSON, and the last one's id if there are more.

    They are ``LIST_BYTES`` long in all, or one record: orders of former versions had no bound.
    """
    texts: list[bytes] = []
    room, last = LIST_BYTES - len("[]"), None
    for record_ in records:
        text = to_json(record_)
        room -= len(text) + len(",")
        if texts and room < 0:
            return texts, last
        texts.append(text)
        last = record_["id"]
    return texts, None


def _next_page(last: int) -> dict[str, str]:
    """Return the header that tells where a list goes on which ended early (RFC 8288)."""
    kept = [
        (name, value) for name, value in request.args.items() if name not in ("before", "offset")
    ]
    query = urlencode([*kept, ("before", last)])
    return {"Link": f'<{public_root()}/queue/jobs?{query}>; rel="next"'}


@blueprint.get("/job/<id_>")
@blueprint.get("/jobs/<id_>")
def show(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    seconds = read_wait(request.args)
    job = find_job(installation().database, caller.principal.project_id, id_)
    if seconds:
        job = waiting_room().wait(caller, job, seconds)
    return answer({**_records([job], caller.principal)[0], **_outlook(job)})


def _outlook(job: Job) -> dict[str, Any]:
    """Return where a waiting job stands; lists do without, since it costs a look at all others."""
    if job.status is not JobStatus.WAITING:
        return {}
    found = find_queue_position(installation().database, job)
    return {"position": found.position, "expectedStart": format_time(found.expected_start)}


@blueprint.post("/jobs/<id_>/kill")
def kill(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    job = request_termination(installation().database, caller.principal, id_)
    # A running job notices by itself; a message helps where its worker has died.
    wake_worker(job)
    return answer({"message": "job termination request accepted for processing"}, 202)


def _records(jobs: Sequence[Job], reader: Principal) -> list[dict[str, Any]]:
    """Return the jobs' records as the reader may see them.

    Only the token that made a sandbox sees its password (contract 9.1.4).
    """
    own = [job for job in jobs if job.token_id == reader.token_id and _has_credentials(job)]
    passwords = reveal_passwords(installation(), own)
    records = [record(job, passwords.get(job.id)) for job in jobs]
    if wants_metrics(request.args):
        records = [{**shown, "metrics": {}} for shown in records]
    return records


def _has_credentials(job: Job) -> bool:
    """Return whether the job's result shows what it created."""
    created = job.command is JobCommand.CREATE and job.status not in UNFINISHED_JOBS
    return created and "credentials" in job.result


def record(job: Job, password: Secret | None) -> dict[str, Any]:
    """Return the job record with all its keys (contract 9.1), with the password if there is one."""
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
        "result": _result(job, password) if finished else {},
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
        **_tries(job),
        "_index": None,
        "_type": "jobs",
        "url": job_url(job.id),
    }


def _tries(job: Job) -> dict[str, Any]:
    """Return how often a job was tried, if more than once, and when it is tried again."""
    paused = job.status in UNFINISHED_JOBS and job.claim_until is None and job.not_before
    return {
        **({"attempts": job.attempts} if job.attempts > 1 else {}),
        **({"notBefore": format_time(job.not_before)} if paused else {}),
    }


def _progress(job: Job) -> dict[str, Any]:
    """Return the steps of a creation so far; other jobs have none."""
    if job.command is not JobCommand.CREATE:
        return {}
    return {"progress": [{**step, "time": format_time(step["time"])} for step in job.progress]}


def _result(job: Job, password: Secret | None) -> dict[str, Any]:
    if password is None:
        return job.result
    credentials = {**job.result["credentials"], "password": password.reveal()}
    return {**job.result, "credentials": credentials}


def _wait_seconds(job: Job) -> int | None:
    # Contract 9.1.7: a terminated job has none.
    if job.status is JobStatus.TERMINATED:
        return None
    return _seconds(job.created_at, job.started_at)


def _number(text: str) -> int | str:
    """Return a project id as the integer that the record shows, or as it is if it is no number."""
    return int(text) if text.isascii() and text.isdigit() else text


def _seconds(start: int | None, end: int | None) -> int | None:
    if start is None or end is None:
        return None
    return max(end // 1000 - start // 1000, 0)
