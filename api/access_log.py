"""A line in the log for each request, but those of health checks."""

import time

import structlog
from flask import Flask, Response, g, request

from api.requests import arrival, run_id
from provisioning.access.tokens import Caller

log = structlog.get_logger()


def install(app: Flask) -> None:
    """Log each request when it is answered."""
    app.after_request(_log_answer)


def _log_answer(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else None
    if route is not None and route.startswith("/health/"):
        return response
    caller: Caller | None = g.get("caller")
    log.info(
        "request",
        method=request.method,
        # Not the path: it may hold whatever a caller sends.
        route=route,
        status=response.status_code,
        ms=round((time.monotonic() - arrival()) * 1000),
        run_id=run_id() or None,
        token=caller.principal.token_id if caller else None,
        project=caller.principal.project_id if caller else None,
    )
    return response
