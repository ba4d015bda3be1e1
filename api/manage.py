"""/provisioning/manage: what operators do (contract section 11); needs no token of a project."""

from flask import Blueprint, Response, request

from api.requests import authenticate_operator, installation, read_parameters
from api.responses import answer
from api.schemas import NoParameters
from api.waiting import wake_worker, wake_workers
from provisioning import errors
from provisioning.background.retention import forget_old
from provisioning.background.sweep import sweep
from provisioning.configuration.catalog import backend_rules, require_type
from provisioning.credentials.garbage_collection import collect_garbage

blueprint = Blueprint("manage", __name__, url_prefix="/provisioning/manage")
NO_PARAMETERS = NoParameters()
#: Seconds of the units that an age may be given in.
AGE_UNITS = {"days": 86_400, "hours": 3600}
#: More units than any credential is old; databases refuse larger numbers.
GREATEST_AGE = 10**6


@blueprint.post("/server/<backend>/garbage-collection")
def collect(backend: str) -> Response:
    operator = authenticate_operator()
    rules = backend_rules(backend)
    read_parameters(NO_PARAMETERS)
    type_ = request.args.get("type")
    if type_ is None:
        raise errors.ParameterMissing("type")
    require_type(rules, type_)
    collected = collect_garbage(installation(), operator, backend, type_, _read_age())
    for job in collected.jobs:
        if not wake_worker(job):
            break
    ids = [str(id_) for id_ in collected.ids]
    return answer({"status": "ok", "count": len(ids), "ids": ids})


def _read_age() -> int:
    """Return the seconds that exactly one of ``days`` and ``hours`` says (contract 11.5)."""
    given = {unit: request.args[unit] for unit in AGE_UNITS if request.args.get(unit)}
    if len(given) != 1:
        raise errors.ParametersContradict("Exactly one of 'days' and 'hours' is required.")
    ((unit, text),) = given.items()
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and digits):
        raise errors.ParameterInvalid(unit, "a whole number from 1 is expected")
    number = int(digits) if len(digits) <= 6 else GREATEST_AGE
    return number * AGE_UNITS[unit]


@blueprint.post("/sweep")
def sweep_now() -> Response:
    """Do what the beat has a worker do every few seconds: one sweep."""
    authenticate_operator()
    read_parameters(NO_PARAMETERS)
    due = sweep(installation())
    woken = wake_workers(due, installation().batch_slots.width)
    forgotten = forget_old(installation())
    return answer({"status": "ok", **due.counts(), "woken": woken, "forgotten": forgotten})
