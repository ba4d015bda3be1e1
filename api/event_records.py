"""The events of a job in words that callers may read."""

from typing import Any

from provisioning.jobs.claiming import SLOT_BUSY
from provisioning.jobs.outcomes import SERVER_DOWN
from provisioning.state.events import Action
from provisioning.state.formats import format_time
from provisioning.state.models import Event

#: What callers read; steps and failed jobs say it themselves.
MESSAGES = {
    Action.CREATED: "The credentials are ready",
    Action.EXPIRED: "The credentials expired",
    Action.COLLECTED: "An operator has old credentials removed",
    Action.DROP_REQUESTED: "The credentials are to be removed",
    Action.RESTORED: "The credentials were not removed and can be used again",
    Action.DROPPED: "The credentials and everything made for them are removed",
    Action.SESSIONS_KILLED: "The open sessions are ended",
    Action.JOB_ACCEPTED: "The job is recorded",
    Action.JOB_STARTED: "A worker works on the job",
    Action.JOB_RETRY_REQUESTED: "An operator has the job tried again at once",
    Action.JOB_KILL_REQUESTED: "The job is to be terminated",
    Action.JOB_UNDOING: "What the job made so far is being removed",
    Action.JOB_SUCCEEDED: "The job is done",
    Action.JOB_CANCELLED: "The job was cancelled before it started",
    Action.JOB_TERMINATED: "The job has been terminated",
    Action.CALLBACK_TAKEN: "The callback was taken",
    Action.CALLBACK_GIVEN_UP: "The callback was not taken and is not tried again",
}
DELAYS = {
    SERVER_DOWN: "A server is not available; the job is tried again",
    SLOT_BUSY: "The job waits for another one on the same sandbox",
    "internal": "An attempt failed; the job is tried again",
}


def event_record(event: Event) -> dict[str, Any]:
    """Return an event as callers of its job's project see it."""
    detail = dict(event.detail or {})
    action = Action(event.action)
    host, _, pid = event.worker.rpartition(":")
    return {
        "id": event.id,
        "time": format_time(event.time),
        "event": action,
        "message": _message(action, detail),
        "step": detail.pop("step", None),
        "percent": detail.pop("percent", None),
        "attempt": detail.pop("attempt", None),
        "durationSeconds": None if event.duration is None else event.duration / 1000,
        "worker": {"host": host, "pid": int(pid)},
        "token": {"id": event.token_id},
        "credentialsId": event.credentials_id,
        "detail": detail,
    }


def _message(action: Action, detail: dict[str, Any]) -> str:
    """Return what the event tells, taken out of the detail where that has it."""
    if action is Action.JOB_DELAYED:
        return DELAYS[detail["reason"]]
    return MESSAGES.get(action) or str(detail.pop("message"))
