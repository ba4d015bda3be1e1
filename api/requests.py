"""What every request goes through before its view, in the contract's order (2.9)."""

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app, g, request
from marshmallow import Schema
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from api import errors as api_errors
from api.schemas import load
from provisioning import errors
from provisioning.access.management_tokens import Operator
from provisioning.access.tokens import Caller
from provisioning.configuration.catalog import BackendRules
from provisioning.configuration.secrets import Secret
from provisioning.installation import Installation

_LEADING_NUMBER = re.compile(r"\s*([0-9]{1,18})(?![0-9])")
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]+)\"?", re.IGNORECASE)
LONGEST_WAIT = 60
#: When the web server began to receive the request, by the monotonic clock.
ARRIVED: ContextVar[float | None] = ContextVar("arrived", default=None)
#: Tells the web server that the request waits from now on, and that another one may compute.
PASS_ON: ContextVar[Callable[[], None]] = ContextVar("pass_on", default=lambda: None)
#: Tells the web server that a token is a good one.
VERIFIED: ContextVar[Callable[[str], None]] = ContextVar("verified", default=lambda _: None)


class BackendConverter(BaseConverter):
    """The segment of a backend's name: anything but the reserved ones (contract 1.5)."""

    regex = r"(?!(?:async|manage)(?:/|$))[^/]+"


def install(app: Flask) -> None:
    """Register the checks that come before any view: route, method, size."""
    app.url_map.converters["backend"] = BackendConverter
    app.before_request(_check_envelope)


def installation() -> Installation:
    """Return the application's installation."""
    found: Installation = current_app.extensions["installation"]
    return found


def _check_envelope() -> tuple[str, int] | None:
    if request.method == "OPTIONS":
        return "", 200
    routing: HTTPException | None = request.routing_exception
    if isinstance(routing, MethodNotAllowed):
        raise api_errors.MethodNotAllowed(request.method, sorted(routing.valid_methods or ()))
    if routing is not None:
        raise api_errors.RouteNotFound
    limit = installation().config.body_limit_bytes
    try:
        g.body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise api_errors.BodyTooLarge(limit) from None
    if len(g.body) > limit:
        raise api_errors.BodyTooLarge(limit)
    return None


def run_id() -> str:
    """Return the request's run id; blank counts as absent (contract 2.5).

    WSGI hands bytes over as Latin-1; callers that write other letters mean UTF-8.
    """
    text = request.headers.get("X-KBC-RunId", "")
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode()
    return text.strip()


def leading_run_id() -> int:
    """Return the run id's leading number, 0 without one (the errors' ``runId``)."""
    found = _LEADING_NUMBER.match(run_id())
    return int(found[1]) if found else 0


def authenticate() -> Caller:
    """Return the caller, or raise why the token is not good (contract 5)."""
    message = installation().config.maintenance_message
    if message:
        raise errors.ServiceMaintenance(message)
    token = Secret(request.headers.get("X-StorageApi-Token", "").strip())
    if not token.reveal():
        raise errors.TokenMissing
    g.caller = Caller(installation().tokens.verify(token), token, run_id())
    VERIFIED.get()(token.reveal())
    caller: Caller = g.caller
    return caller


def authenticate_operator() -> Operator:
    """Return who operates, or raise why the management token is not good (contract 11.4).

    Maintenance does not keep operators out.
    """
    token = Secret(request.headers.get("X-KBC-ManageApiToken", "").strip())
    if not token.reveal():
        raise errors.ManageTokenMissing
    operator = installation().manage_tokens.verify(token, run_id())
    VERIFIED.get()(token.reveal())
    return operator


def offered_rules(backend: str) -> BackendRules:
    """Return the rules of a backend; raise ``BackendUnknown`` unless it is offered."""
    for rules in installation().config.offered():
        if rules.name == backend:
            return rules
    raise errors.BackendUnknown(backend)


def read_parameters(schema: Schema) -> dict[str, Any]:
    """Return the body's parameters as the schema allows them (contract 2.2, 2.3, 2.6)."""
    return load(schema, _read_object(g.body))


def _read_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        # The text may start with the byte order mark that some clients write.
        parsed = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise errors.BadJson("nested too deep") from None
    except ValueError as problem:
        raise errors.BadJson(_explain(problem)) from None
    if parsed is None or parsed == []:
        return {}
    if not isinstance(parsed, dict):
        raise errors.BadJson("an object is expected")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _explain(problem: ValueError) -> str:
    """Return the parser's text; a decoding error's own would quote the body."""
    return "not UTF-8" if isinstance(problem, UnicodeDecodeError) else str(problem)


@dataclass(frozen=True)
class Preference:
    """How a caller wants to wait (contract 7.1, 7.3)."""

    seconds: float
    #: It said so itself, so it understands 202.
    stated: bool = True
    asynchronous: bool = False


def preferred_wait(default: int) -> Preference:
    """Return what ``Prefer`` says; values that are not understood are ignored (contract 2.7)."""
    preferences = [part.strip() for part in request.headers.get("Prefer", "").split(",")]
    if any(part.lower() == "respond-async" for part in preferences):
        return Preference(0, asynchronous=True)
    for part in preferences:
        found = _WAIT.fullmatch(part)
        if found:
            return Preference(cut_wait(found[1]))
    return Preference(default, stated=False)


def arrival() -> float:
    """Return when the request came in by the monotonic clock, as far as the web server tells."""
    return ARRIVED.get() or time.monotonic()


def cut_wait(digits: str) -> int:
    """Return the seconds that ``digits`` say, at most the longest wait."""
    # Python refuses to read numbers of thousands of digits; nobody needs them read.
    return LONGEST_WAIT if len(digits.lstrip("0")) > 3 else min(int(digits), LONGEST_WAIT)


def public_root() -> str:
    """Return the address in front of every path the service prints (contract 1.3)."""
    configured = installation().config.public_url
    return (configured or request.root_url).rstrip("/")
