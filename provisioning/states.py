"""The states of credentials and jobs and the moves between them, in one place."""

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

    DELETE = "delete"
    KILL = "kill"


#: A dropping row goes back to active when its delete job gives up (contract 6.2.2).
CREDENTIALS_MOVES: dict[CredentialsState, frozenset[CredentialsState]] = {
    CredentialsState.CREATING: frozenset({CredentialsState.ACTIVE, CredentialsState.DROPPING}),
    CredentialsState.ACTIVE: frozenset({CredentialsState.DROPPING}),
    CredentialsState.DROPPING: frozenset({CredentialsState.DROPPED, CredentialsState.ACTIVE}),
    CredentialsState.DROPPED: frozenset(),
}

UNFINISHED_JOBS = frozenset({JobStatus.WAITING, JobStatus.PROCESSING, JobStatus.TERMINATING})
