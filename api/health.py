"""/health: for load balancers and operators; needs no token."""

from flask import Blueprint, Response

from api.requests import installation
from api.responses import answer
from provisioning.credentials.observation import current_observation
from provisioning.errors import StateUnavailable

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Tell that the process answers; it looks at nothing else."""
    return answer({"status": "ok"})


@blueprint.get("/ready")
def ready() -> Response:
    """Tell whether requests can be served: the state database answers, with our schema.

    Servers of backends and the broker do not count: without them reads and other backends
    still work.
    """
    try:
        current = installation().database.is_current()
        observation = current_observation(installation().database) if current else None
    except StateUnavailable:
        return _not_ready("the state database does not answer")
    if not current:
        return _not_ready("the state database needs `provisioning db upgrade`")
    if observation is not None:
        return answer({"status": "ok", "observing": observation.why})
    return answer({"status": "ok"})


def _not_ready(why: str) -> Response:
    return answer({"status": "error", "message": why}, 503, {"Retry-After": "5"})
