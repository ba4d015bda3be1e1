"""/queue/job/{id}/events: what happened to a job, in words that callers may read."""

from flask import Blueprint, Response, request

from api.event_records import event_record
from api.queries import read_after
from api.requests import authenticate, installation, read_parameters
from api.responses import answer
from api.schemas import NoParameters
from provisioning.jobs.reading import find_job
from provisioning.state.events import events_of_job

blueprint = Blueprint("job_events", __name__, url_prefix="/queue")


@blueprint.get("/job/<id_>/events")
@blueprint.get("/jobs/<id_>/events")
def show(id_: str) -> Response:
    caller = authenticate()
    read_parameters(NoParameters())
    after = read_after(request.args)
    job = find_job(installation().database, caller.principal.project_id, id_)
    events = events_of_job(installation().database, job.id, after)
    return answer([event_record(event) for event in events])
