"""/health: for load balancers and operators; needs no token."""

from flask import Blueprint, Response, current_app

from api.requests import installation
from api.responses import answer
from api.waiting import reaches_broker
from provisioning.credentials.observation import current_observation
from provisioning.errors import StateUnavailable

#: Longest wait for the broker: load balancers wait for about a second.
BROKER_SECONDS = 0.5

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Tell that the process answers; it looks at nothing else."""
    return answer({"status": "ok"})


@blueprint.get("/ready")
def ready() -> Response:
    """Tell whether requests can be served: the state database answers, with our schema.

    A process that was told to stop still serves them, but load balancers are to leave it.

    Servers of backends and the broker do not count: without them reads and other backends
    still work. That the broker does not answer is said beside.
    """
    if current_app.extensions["stopping"].is_set():
        return _not_ready("the process was told to stop")
    try:
        current = installation().database.is_current()
        observation = current_observation(installation().database) if current else None
    except StateUnavailable:
        return _not_ready("the state database does not answer")
    if not current:
        return _not_ready("the state database needs `provisioning db upgrade`")
    body = {"status": "ok"}
    if observation is not None:
        body["observing"] = observation.why
    if not reaches_broker(BROKER_SECONDS):
        body["broker"] = "unavailable"
    return answer(body)


def _not_ready(why: str) -> Response:
    return answer({"status": "error", "message": why}, 503, {"Retry-After": "5"})
