"""/provisioning/manage/events: the audit, with what callers do not see."""

from typing import Any

from flask import Blueprint, Response, request

from api.queries import Arguments, read_before, read_limit, read_times
from api.requests import authenticate_operator, installation, read_parameters
from api.responses import answer
from api.schemas import NoParameters
from provisioning import errors
from provisioning.state.event_search import EventSearch, find_events
from provisioning.state.events import Action
from provisioning.state.formats import format_time, read_id
from provisioning.state.models import Event

blueprint = Blueprint("audit", __name__, url_prefix="/provisioning/manage")

#: The columns of an event that a filter may give a text, or a number, by the filter's name.
TEXT_COLUMNS = {"project": "project_id", "token": "token_id", "runId": "run_id", "action": "action"}
NUMBER_COLUMNS = {"credentials": "credentials_id", "job": "job_id"}


@blueprint.get("/events")
def show() -> Response:
    authenticate_operator()
    read_parameters(NoParameters())
    arguments = request.args
    search = EventSearch(
        limit=read_limit(arguments),
        before=read_before(arguments, "the id of an event"),
        **read_times(arguments, installation().database),
        columns=_read_columns(arguments),
    )
    return answer([_shown(event) for event in find_events(installation().database, search)])


def _read_columns(arguments: Arguments) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, column in TEXT_COLUMNS.items():
        text = arguments.get(name, "")
        if "\0" in text:
            raise errors.QueryInvalid(name, "it has a NUL")
        if text:
            columns[column] = text
    if columns.get("action", Action.CREATED) not in set(Action):
        raise errors.QueryInvalid("action", f"it is one of {', '.join(Action)}")
    for name, column in NUMBER_COLUMNS.items():
        text = arguments.get(name, "")
        if text and read_id(text) is None:
            raise errors.QueryInvalid(name, "an id is expected")
        if text:
            columns[column] = read_id(text)
    return columns


def _shown(event: Event) -> dict[str, Any]:
    host, _, pid = event.worker.rpartition(":")
    return {
        "id": event.id,
        "time": format_time(event.time),
        "action": event.action,
        "project": event.project_id,
        "token": event.token_id,
        "runId": event.run_id,
        "job": event.job_id,
        "credentials": event.credentials_id,
        "worker": {"host": host, "pid": int(pid)},
        "durationSeconds": None if event.duration is None else event.duration / 1000,
        "detail": event.detail or {},
        "failure": event.failure,
    }
