"""What every answer has: JSON, the CORS headers, and the one form of errors (2.1, 3)."""

import json
from http.client import responses as reason_phrases
from typing import Any

import structlog
from flask import Flask, Response, request

from api.errors import MethodNotAllowed, kind_of, status_of
from api.requests import installation, leading_run_id
from provisioning import errors
from provisioning.jobs.outcomes import new_exception_id

log = structlog.get_logger()

HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
    "Cache-Control": "private, no-cache, no-store, must-revalidate",
}
OPTIONS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "content-type, x-requested-with, x-requested-by, x-storageapi-url, x-storageapi-token, "
        "x-kbc-runid, x-user-agent, prefer"
    ),
    "Access-Control-Max-Age": "86400",
}
INTERNAL_MESSAGE = errors.JobFailed().message


def install(app: Flask) -> None:
    """Register the error handlers and the headers of every answer."""
    app.after_request(_add_headers)
    app.register_error_handler(errors.ProvisioningError, _answer_error)
    app.register_error_handler(Exception, _answer_unexpected)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return answer_json(to_json(body), status, headers)


def answer_json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON that is written already."""
    return Response(body, status=status, headers=headers, mimetype="application/json")


def to_json(body: Any) -> bytes:
    """Return the one form in which answers are written."""
    return json.dumps(body, separators=(",", ":")).encode()


def quota_warning(text: str | None) -> dict[str, Any]:
    """Return what a creation's answer has besides when a soft limit was passed."""
    return {} if text is None else {"quotaWarning": text}


def _add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.method == "OPTIONS":
        response.headers.update(OPTIONS_HEADERS)
        response.content_type = "application/json"
    return response


def _answer_error(error: errors.ProvisioningError) -> Response:
    status = status_of(error)
    exception_id = new_exception_id()
    write = log.warning if status >= 500 else log.info
    write(
        "request_refused",
        status=status,
        reason=error.reason,
        exception_id=exception_id,
        method=request.method,
        path=request.path,
        **cause_of(error),
    )
    return _error_body(error, status, exception_id)


def cause_of(error: errors.ProvisioningError) -> dict[str, str]:
    """Return what a log line has of an error that the caller is not told."""
    return {"cause": error.cause} if error.cause else {}


def _answer_unexpected(problem: Exception) -> Response:
    exception_id = new_exception_id()
    # The type and the place tell an operator enough; the text might quote a statement.
    log.error(
        "request_failed",
        exception_id=exception_id,
        method=request.method,
        path=request.path,
        problem=type(problem).__name__,
        frames=_frames(problem),
    )
    return _error_body(errors.ProvisioningError(INTERNAL_MESSAGE), 500, exception_id)


def _frames(problem: BaseException) -> list[str]:
    """Return file:line of the innermost frames, without source lines or values."""
    frames = []
    trace = problem.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}:{code.co_name}")
        trace = trace.tb_next
    return frames[-8:]


def error_bytes(
    error: errors.ProvisioningError, status: int, exception_id: str, retry_after: int
) -> bytes:
    """Return the whole answer to what is no request, or none that is passed on."""
    content = json.dumps(_error_fields(error, status, exception_id, 0)).encode()
    headers = {
        **HEADERS,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **({"Retry-After": str(max(retry_after, 1))} if status == 503 else {}),
    }
    lines = [f"HTTP/1.1 {status} {reason_phrases[status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _error_fields(
    error: errors.ProvisioningError, status: int, exception_id: str, run_id: int
) -> dict[str, Any]:
    return {
        "status": "warning" if isinstance(error, errors.CannotExtend) else "error",
        "error": kind_of(error, status),
        "code": status,
        "reason": error.reason,
        "message": error.message,
        "exceptionId": exception_id,
        "runId": run_id,
    }


def _error_body(error: errors.ProvisioningError, status: int, exception_id: str) -> Response:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(installation().config.retry_after_seconds, 1))
    if isinstance(error, errors.RateLimited):
        headers["Retry-After"] = str(error.seconds)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return answer(_error_fields(error, status, exception_id, leading_run_id()), status, headers)
