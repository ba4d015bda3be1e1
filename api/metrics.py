"""/metrics: what Prometheus scrapes, with the token of METRICS_TOKEN."""

import hmac
import os
import time
from functools import cache

from flask import Blueprint, Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram

from api.errors import RouteNotFound
from api.health import BROKER_SECONDS
from api.requests import arrival, installation
from api.waiting import reaches_broker
from provisioning.background.monitoring import read_metrics
from provisioning.configuration.metrics import REQUEST_SECONDS, REQUESTS

blueprint = Blueprint("metrics", __name__)


def install(app: Flask) -> None:
    """Count each request when it is answered."""
    app.after_request(_count)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the counts of all processes of this front, and what the state knows."""
    sent = request.headers.get("Authorization", "").encode()
    expected = f"Bearer {installation().config.metrics_token.reveal()}".encode()
    if not hmac.compare_digest(sent, expected):
        raise RouteNotFound
    shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
    text = read_metrics(installation(), lambda: reaches_broker(BROKER_SECONDS), shared=shared)
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _count(response: Response) -> Response:
    rule = request.url_rule
    # Without a route the method may be any word.
    method, route = (request.method, rule.rule) if rule else ("", "")
    requests, seconds = _figures(method, route, response.status_code)
    requests.inc()
    seconds.observe(time.monotonic() - arrival())
    return response


@cache
def _figures(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts such requests; to look it up takes longer than to count."""
    return REQUESTS.labels(method, route, str(status)), REQUEST_SECONDS.labels(route)
