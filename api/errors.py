"""The one table from domain errors to HTTP: status by reason (contract section 3)."""

from provisioning import errors

#: Status of each reason; ``token_refused`` carries its own.
STATUS: dict[str, int] = {
    "token_missing": 400,
    "token_invalid": 401,
    "manage_token_missing": 400,
    "manage_token_invalid": 401,
    "rate_limited": 429,
    "bad_json": 400,
    "backend_unknown": 400,
    "type_invalid": 400,
    "parameter_unknown": 400,
    "parameter_missing": 400,
    "parameter_invalid": 400,
    "backend_async_only": 400,
    "backend_sync_only": 400,
    "job_finished": 400,
    "cannot_extend": 400,
    "query_invalid": 400,
    "backend_disabled": 403,
    "quota_exceeded": 403,
    "route_not_found": 404,
    "credentials_not_found": 404,
    "job_not_found": 404,
    "server_not_found": 404,
    "server_not_alive": 400,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "not_http": 400,
    "line_too_long": 414,
    "headers_too_large": 431,
    "request_too_slow": 408,
    "overloaded": 503,
    "maintenance": 503,
    "observing": 503,
    "token_service_unavailable": 503,
    "backend_unavailable": 503,
    "backend_full": 503,
    "queue_full": 503,
    "creation_in_progress": 503,
    "job_in_progress": 503,
    "state_unavailable": 503,
    "too_many_streams": 503,
    "internal": 500,
}


class RouteNotFound(errors.ProvisioningError):
    reason = "route_not_found"

    def __init__(self) -> None:
        super().__init__("Route not found")


class MethodNotAllowed(errors.ProvisioningError):
    reason = "method_not_allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        super().__init__(f"Method {method} is not allowed.")
        self.allowed = allowed


class BodyTooLarge(errors.ProvisioningError):
    reason = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit} bytes.")


class NotHTTP(errors.ProvisioningError):
    reason = "not_http"
    message = "The request is not valid HTTP."


class LineTooLong(errors.ProvisioningError):
    reason = "line_too_long"
    message = "The first line of the request is too long."


class HeadersTooLarge(errors.ProvisioningError):
    reason = "headers_too_large"
    message = "The headers of the request are too large."


class RequestTooSlow(errors.ProvisioningError):
    """A caller takes too long to send its request; nothing was done."""

    reason = "request_too_slow"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"The request did not arrive within {seconds} seconds.")


class Overloaded(errors.ProvisioningError):
    """The process has no room for the request; nothing was done."""

    reason = "overloaded"
    message = "The service is busy, repeat the request."


def status_of(error: errors.ProvisioningError) -> int:
    """Return the HTTP status of a domain error."""
    if isinstance(error, errors.TokenRefused):
        return error.status
    return STATUS[error.reason]


def kind_of(error: errors.ProvisioningError, status: int) -> str:
    """Return the ``error`` key: who has to do something about it."""
    if isinstance(error, errors.ProjectDisabled):
        return "Project is disabled"
    return "Application error" if status >= 500 else "User error"
