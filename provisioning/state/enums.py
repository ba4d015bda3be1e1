"""The states of credentials and jobs, in one place."""

from enum import StrEnum


class CredentialsState(StrEnum):
    """What the service owes for a row. Only ``ACTIVE`` rows are visible to their owner."""

    CREATING = "creating"
    ACTIVE = "active"
    DROPPING = "dropping"
    DROPPED = "dropped"


class JobStatus(StrEnum):
    """Contract 9.1.5."""

    WAITING = "waiting"
    PROCESSING = "processing"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class JobCommand(StrEnum):
    """What a job does (contract 9.1.2)."""

    CREATE = "create"
    DELETE = "delete"
    KILL = "kill"


class ServerMode(StrEnum):
    """Whether a registered server takes new credentials (contract 11.7)."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class CallbackState(StrEnum):
    """Whether a callback still has to be sent."""

    OPEN = "open"
    TAKEN = "taken"
    GIVEN_UP = "given_up"


UNFINISHED_JOBS = frozenset({JobStatus.WAITING, JobStatus.PROCESSING, JobStatus.TERMINATING})

STARTED_JOBS = UNFINISHED_JOBS - {JobStatus.WAITING}

#: Those that a job or the sweep has to finish.
UNFINISHED_CREDENTIALS = frozenset({CredentialsState.CREATING, CredentialsState.DROPPING})
#: Those that may have something on a server.
EXISTING_CREDENTIALS = frozenset(CredentialsState) - {CredentialsState.DROPPED}
