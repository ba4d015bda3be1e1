"""/provisioning/{backend}: credentials of the sync backends (contract sections 6 and 7)."""

from typing import Any

from flask import Blueprint, Response, request

from api.job_answers import accepted
from api.requests import (
    Preference,
    arrival,
    authenticate,
    installation,
    offered_rules,
    preferred_wait,
    read_parameters,
)
from api.responses import answer, quota_warning
from api.schemas import CreateCredentials, CreateSnowflake, Extend, NoParameters, ResetPassword
from api.waiting import waiting_room, wake_worker
from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.configuration.catalog import BackendRules, require_type
from provisioning.credentials import changes, creation, reading
from provisioning.credentials.lifetime import require_possible
from provisioning.jobs.outcomes import SERVER_DOWN
from provisioning.state.enums import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.state.formats import format_time
from provisioning.state.models import Job

blueprint = Blueprint("credentials", __name__, url_prefix="/provisioning")
CREATE, EXTEND, NO_PARAMETERS = CreateCredentials(), Extend(), NoParameters()
RESET_PASSWORD = ResetPassword()
#: Backends whose creation takes more than a type.
CREATE_WITH_MORE = {"snowflake": CreateSnowflake()}


@blueprint.post("/<backend:backend>")
def create(backend: str) -> Response:
    caller = authenticate()
    rules = _sync_rules(backend)
    parameters = read_parameters(CREATE_WITH_MORE.get(backend, CREATE))
    type_ = parameters.get("type", rules.default_type)
    require_type(rules, type_)
    ttl = parameters.get("ttl")
    require_possible(installation(), caller.principal, rules, [type_], ttl)
    creation.require_enabled(installation().config, rules, caller.principal)
    key = parameters.get("publicKey")
    with waiting_room().place(caller) as seated:
        if not seated:
            raise errors.CreationInProgress
        view = creation.get_or_create(installation(), caller, rules, type_, key, ttl)
    body = _body(view, {"url": f"{backend}/{view.id}"})
    return answer({**body, **quota_warning(view.quota_warning)}, 201)


@blueprint.get("/<backend:backend>")
def find_by_type(backend: str) -> Response:
    caller = authenticate()
    rules = offered_rules(backend)
    read_parameters(NO_PARAMETERS)
    type_ = request.args.get("type")
    if type_ is not None:
        require_type(rules, type_)
    view = reading.find_by_type(installation(), caller, backend, type_ or rules.default_type)
    return answer(_body(view, {"inUse": bool(view.in_use)}))


@blueprint.get("/<backend:backend>/<id_>")
def find_by_id(backend: str, id_: str) -> Response:
    caller = authenticate()
    offered_rules(backend)
    read_parameters(NO_PARAMETERS)
    view = reading.find_by_id(installation(), caller, backend, id_)
    return answer(_body(view, {"inUse": bool(view.in_use)}))


@blueprint.post("/<backend:backend>/<id_>/extend")
def extend(backend: str, id_: str) -> Response:
    caller = authenticate()
    offered_rules(backend)
    ttl = read_parameters(EXTEND).get("ttl")
    extension = changes.extend(installation(), caller, backend, id_, ttl)
    return answer(
        {
            "touch": extension.touched_at // 1000,
            "id": str(extension.id),
            "expiration": format_time(extension.expires_at),
        }
    )


@blueprint.post("/<backend:backend>/<id_>/password")
def reset_password(backend: str, id_: str) -> Response:
    caller = authenticate()
    _sync_rules(backend)
    end_sessions = read_parameters(RESET_PASSWORD).get("endSessions", False)
    # It may wait for another process that sets the password, or for the end of one that died so.
    with waiting_room().place(caller) as seated:
        if not seated:
            raise errors.JobInProgress
        view = changes.reset_password(
            installation(), caller, backend, id_, end_sessions=end_sessions
        )
    return answer(_body(view, {"inUse": bool(view.in_use)}))


@blueprint.delete("/<backend:backend>/<id_>")
def drop(backend: str, id_: str) -> Response:
    caller = authenticate()
    _sync_rules(backend)
    read_parameters(NO_PARAMETERS)
    preference = _preference()
    waits = not preference.asynchronous
    try:
        job = changes.request_drop(installation(), caller, backend, id_, waits=waits)
    except errors.CredentialsNotFound:
        # It may be the repeat of a request whose answer was lost or 503.
        running = changes.find_drop(installation(), caller, backend, id_, arrival())
        if running is None:
            return answer({"status": "ok"})
        job = running
        if not waits:
            changes.note_told(installation(), int(id_))
    return _finish(caller, job, preference)


@blueprint.post("/<backend:backend>/<id_>/kill")
def kill(backend: str, id_: str) -> Response:
    caller = authenticate()
    _sync_rules(backend)
    read_parameters(NO_PARAMETERS)
    preference = _preference()
    waits = not preference.asynchronous
    job = changes.request_kill(installation(), caller, backend, id_, waits=waits)
    return _finish(caller, job, preference)


def _preference() -> Preference:
    return preferred_wait(installation().config.delete_wait_seconds)


def _sync_rules(backend: str) -> BackendRules:
    rules = offered_rules(backend)
    if rules.asynchronous:
        raise errors.BackendAsyncOnly(backend)
    return rules


def _body(view: reading.CredentialsView, extra: dict[str, Any]) -> dict[str, Any]:
    protected = format_time(view.protected_until)
    additions = {
        "activity": view.activity,
        "protectedUntil": protected,
        "warning": view.warning,
    }
    return {
        "id": str(view.id),
        "status": "ok",
        "touch": view.touched_at // 1000,
        **extra,
        # Workspaces have a number of their own, printed in both places (contract 6.1.5).
        **{key: view.details[key] for key in ("workspaceId",) if key in view.details},
        "credentials": {"id": str(view.id), **view.details},
        "expiration": format_time(view.expires_at),
        "canExtend": view.can_extend,
        **{name: value for name, value in additions.items() if value is not None},
    }


def _finish(caller: Caller, job: Job, preference: Preference) -> Response:
    """Wake a worker, wait as preferred, and answer by the job's state (contract 7)."""
    woken = wake_worker(job)
    if preference.asynchronous:
        return accepted(job, headers={"Preference-Applied": "respond-async"})
    # No worker can be told of the job while the broker is down; it runs after its return.
    job = waiting_room().wait(caller, job, preference.seconds if woken else 0)
    finished = job.status not in UNFINISHED_JOBS
    deleted = int(job.params["id"]) if job.command is JobCommand.DELETE else None
    if not finished and not preference.stated:
        if deleted:
            changes.note_sent_away(installation(), deleted)
        raise errors.JobInProgress(cause=f"job {job.id} is {job.status}")
    if deleted and job.status is not JobStatus.ERROR:
        # With a 202 the caller knows where to look.
        changes.note_told(installation(), deleted)
    if not finished:
        return accepted(job)
    if job.status is JobStatus.SUCCESS:
        return answer({"status": "ok"})
    if job.error_note == SERVER_DOWN:
        raise errors.BackendUnavailable(job.params["backend"], job.failure or "")
    raise errors.JobFailed
