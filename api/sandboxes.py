"""/provisioning/async/{backend}: sandboxes, made and dropped by jobs (contract section 8)."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, request

from api.job_answers import accepted, job_url
from api.requests import authenticate, installation, offered_rules, read_parameters
from api.responses import answer
from api.schemas import (
    CreateFromTransformation,
    CreateFromTransformationWithCallback,
    CreateSandbox,
    CreateSandboxWithCallback,
    NoParameters,
)
from api.waiting import wake_worker
from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.configuration.catalog import BackendRules, require_type
from provisioning.credentials import changes, creation
from provisioning.credentials.lifetime import require_possible
from provisioning.jobs.callbacks import PARAMETER, CallbackOrder, read_callback_url
from provisioning.jobs.idempotency import HEADER, read_key, record_once
from provisioning.sandbox.orders import request_sandbox
from provisioning.sandbox.request import read_request, require_storable
from provisioning.state.models import Job

blueprint = Blueprint("sandboxes", __name__, url_prefix="/provisioning/async")
NO_PARAMETERS = NoParameters()
#: Without and with callbacks.
CREATE = {False: CreateSandbox(), True: CreateSandboxWithCallback()}
TRANSFORM = {False: CreateFromTransformation(), True: CreateFromTransformationWithCallback()}


@blueprint.post("/<backend>")
def create(backend: str) -> Response:
    caller = authenticate()
    rules = _async_rules(backend)
    parameters = read_parameters(CREATE[_has_callbacks()])
    require_type(rules, parameters["type"])
    return _accept(caller, rules, parameters, [parameters["type"]])


@blueprint.post("/<backend>/transformation")
def create_from_transformation(backend: str) -> Response:
    caller = authenticate()
    rules = _async_rules(backend)
    parameters = read_parameters(TRANSFORM[_has_callbacks()])
    # Its type is in the row that the worker reads, so it may be any.
    return _accept(caller, rules, parameters, rules.types)


def _has_callbacks() -> bool:
    return bool(installation().config.callback_hosts)


def _accept(
    caller: Caller, rules: BackendRules, parameters: dict[str, Any], types: Iterable[str]
) -> Response:
    require_possible(installation(), caller.principal, rules, types, parameters.get("ttl"))
    key = read_key(request.headers.get(HEADER, ""), caller.principal.token_id, parameters)
    callback = _read_callback(parameters)
    wanted = read_request(parameters)
    require_storable(wanted, installation().config.params_limit_bytes)
    creation.require_enabled(installation().config, rules, caller.principal)
    warning = None

    def record() -> Job:
        nonlocal warning
        job, warning = request_sandbox(installation(), caller, rules, wanted, callback, key)
        return job

    job = record_once(installation().database, key, record)
    wake_worker(job)
    return accepted(job, warning=warning)


def _read_callback(parameters: dict[str, Any]) -> CallbackOrder | None:
    """Take the callback out of the parameters: a job's record does not show it."""
    url = parameters.pop(PARAMETER, None)
    if url is None:
        return None
    url = read_callback_url(installation().config, url)
    return CallbackOrder(url, job_url(""))


@blueprint.delete("/<backend>/<id_>")
def drop(backend: str, id_: str) -> Response:
    caller = authenticate()
    _async_rules(backend)
    read_parameters(NO_PARAMETERS)
    job = changes.request_drop(installation(), caller, backend, id_)
    wake_worker(job)
    # Contract 4.4: unlike everywhere else, the id is a string here.
    return answer({"id": str(job.id), "url": job_url(job.id), "status": str(job.status)})


def _async_rules(backend: str) -> BackendRules:
    rules = offered_rules(backend)
    if not rules.asynchronous:
        raise errors.BackendSyncOnly(backend)
    return rules
