"""The domain's errors: one tree, each with the stable reason code of contract section 3.

The messages are what a caller may read: they never hold a secret, an admin host or SQL.

ConfigurationError
ProvisioningError
    # What a caller sent
    BadJson
    BackendUnknown
    BackendAsyncOnly
    BackendSyncOnly
    TypeInvalid
    ParameterUnknown
    ParameterMissing
    ParameterInvalid
    ParametersContradict
    QueryInvalid
    # Who sent it
    TokenMissing
    TokenInvalid
    TokenRefused
    TokenServiceUnavailable
    ProjectDisabled
    ManageTokenMissing
    ManageTokenInvalid
    RateLimited
    ServiceMaintenance
    Observing
    BackendDisabled
    QuotaExceeded
    # What it is about
    CredentialsNotFound
    JobNotFound
    ServerNotFound
    ServerNotAlive
    JobFinished
    CannotExtend
    # What the service depends on
    BackendUnavailable
    BackendFull
    QueueFull
    CreationInProgress
    JobInProgress
    StateUnavailable
    TooManyStreams
    JobFailed
"""

from collections.abc import Iterable


class ProvisioningError(Exception):
    """What the service answers instead of a result. ``reason`` is for programs."""

    reason = "internal"
    #: For callers to read; given to the constructor where it is not always the same.
    message = ""

    def __init__(self, message: str | None = None, *, cause: str = "") -> None:
        if message is not None:
            self.message = message
        #: For operators to read in the log: what failed, and where. No secret, no SQL.
        self.cause = cause
        super().__init__(self.message)


class ConfigurationError(Exception):
    """The environment or the servers file cannot be used; the text names the key."""


# What a caller sent ---------------------------------------------------------------------


class BadJson(ProvisioningError):
    reason = "bad_json"

    def __init__(self, detail: str) -> None:
        super().__init__(f"Bad JSON format of request body: {detail}")


class BackendUnknown(ProvisioningError):
    reason = "backend_unknown"

    def __init__(self, backend: str) -> None:
        super().__init__(f"Backend '{backend}' not found.")


class BackendAsyncOnly(ProvisioningError):
    reason = "backend_async_only"

    def __init__(self, backend: str) -> None:
        super().__init__(f"Backend '{backend}' supports only async actions.")


class BackendSyncOnly(ProvisioningError):
    reason = "backend_sync_only"

    def __init__(self, backend: str) -> None:
        super().__init__(f"Backend '{backend}' does not support async actions.")


class TypeInvalid(ProvisioningError):
    reason = "type_invalid"

    def __init__(self, type_: str, backend: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"Type '{type_}' is not supported by backend '{backend}'. "
            f"Allowed types are '{','.join(allowed)}'."
        )


class ParameterUnknown(ProvisioningError):
    reason = "parameter_unknown"

    def __init__(self, name: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"Parameter '{name}' is not allowed. Allowed params are '{','.join(allowed)}'"
        )


class ParameterMissing(ProvisioningError):
    reason = "parameter_missing"

    def __init__(self, name: str) -> None:
        super().__init__(f"Parameter '{name}' is required.")


class ParameterInvalid(ProvisioningError):
    reason = "parameter_invalid"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"Parameter '{path}' is invalid: {problem}")


class ParametersContradict(ProvisioningError):
    """Parameters that are well formed, but not together; the text names them."""

    reason = "parameter_invalid"


class QueryInvalid(ProvisioningError):
    reason = "query_invalid"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"Parameter '{name}' is invalid: {problem}")


# Who sent it ----------------------------------------------------------------------------


class TokenMissing(ProvisioningError):
    reason = "token_missing"
    message = "Missing StorageAPI token"


class TokenInvalid(ProvisioningError):
    reason = "token_invalid"
    message = "Invalid StorageApi Token"


class TokenRefused(ProvisioningError):
    """The token service answered another 4xx: the caller gets that status and text."""

    reason = "token_refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TokenServiceUnavailable(ProvisioningError):
    reason = "token_service_unavailable"
    message = "Token verification is not available, try again later."


class ProjectDisabled(ProvisioningError):
    """The token service says the project is under maintenance."""

    reason = "maintenance"

    def __init__(self, why: str) -> None:
        super().__init__(f"Project is disabled - {why}")


class ManageTokenMissing(ProvisioningError):
    reason = "manage_token_missing"
    message = "Missing Manage API token"


class ManageTokenInvalid(ProvisioningError):
    reason = "manage_token_invalid"
    message = "Invalid Manage API token"


class RateLimited(ProvisioningError):
    """Too many calls in a minute; the next are answered in ``seconds``."""

    reason = "rate_limited"

    def __init__(self, seconds: int) -> None:
        super().__init__("Too many calls, try again later.")
        self.seconds = seconds


class ServiceMaintenance(ProvisioningError):
    """The operator put the service into maintenance; the text is the operator's."""

    reason = "maintenance"


class Observing(ProvisioningError):
    """After a restore nothing is removed but what its owner deletes."""

    reason = "observing"
    message = "The service observes after a restore: `provisioning observe off` ends that."


class BackendDisabled(ProvisioningError):
    reason = "backend_disabled"

    def __init__(self, backend: str, project_id: str) -> None:
        super().__init__(f"Backend '{backend}' is not enabled for project {project_id}.")


class QuotaExceeded(ProvisioningError):
    """A limit of the project, or of the token, allows no more; nothing is recorded."""

    reason = "quota_exceeded"

    def __init__(self, scope: str, words: str, limit: int, used: int, needed: int) -> None:
        more = f", {needed} more needed" if needed > 1 else ""
        super().__init__(f"The {scope}'s limit of {limit} {words} is reached: {used} used{more}.")


# What it is about -----------------------------------------------------------------------


class CredentialsNotFound(ProvisioningError):
    reason = "credentials_not_found"
    message = "Credentials not found."


class JobNotFound(ProvisioningError):
    reason = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job id '{job_id}' not found.")


class ServerNotFound(ProvisioningError):
    reason = "server_not_found"
    message = "Server not found."


class ServerNotAlive(ProvisioningError):
    """A registered server that does not work is not activated; the log says what is wrong."""

    reason = "server_not_alive"

    def __init__(self, server_id: int) -> None:
        super().__init__(f"Server {server_id} is not alive.")


class JobFinished(ProvisioningError):
    reason = "job_finished"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job id '{job_id}' is already finished.")


class CannotExtend(ProvisioningError):
    reason = "cannot_extend"
    message = "The sandbox cannot be extended."


# What the service depends on ------------------------------------------------------------


class BackendUnavailable(ProvisioningError):
    """No server of the backend can do it now; a repeat later may succeed."""

    reason = "backend_unavailable"

    def __init__(self, backend: str, cause: str) -> None:
        super().__init__(f"Backend '{backend}' is not available, try again later.", cause=cause)


class BackendFull(ProvisioningError):
    """All servers of the backend have as many credentials as they may."""

    reason = "backend_full"

    def __init__(self, backend: str, cause: str) -> None:
        super().__init__(
            f"Backend '{backend}' has no room for more credentials, try again later.", cause=cause
        )


class QueueFull(ProvisioningError):
    """So many jobs wait that a further one is not recorded."""

    reason = "queue_full"
    message = "Too many jobs are waiting, try again later."


class CreationInProgress(ProvisioningError):
    reason = "creation_in_progress"
    message = "Credentials are being created, repeat the request."


class JobInProgress(ProvisioningError):
    """A delete or kill goes on, and its caller did not say that it understands 202.

    Or so many of the caller's requests wait that one more finds no place.
    """

    reason = "job_in_progress"
    message = "The request is being processed, repeat it."


class StateUnavailable(ProvisioningError):
    """The state database does not answer. Nothing was decided, so a repeat is safe."""

    reason = "state_unavailable"
    message = "The service's state database is not available, try again later."


class TooManyStreams(ProvisioningError):
    """Each stream holds a thread of the front, so their number is bounded."""

    reason = "too_many_streams"
    message = "Too many streams are open, try again later or ask for the events."


class JobFailed(ProvisioningError):
    """A job the caller waited for ended in an internal error (contract 7.2)."""

    reason = "internal"
    message = "Internal error occurred, contact support and attach this exception id."
