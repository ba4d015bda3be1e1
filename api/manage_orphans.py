"""/provisioning/manage/orphans: where the servers and the state do not agree."""

from flask import Blueprint, Response

from api.requests import authenticate_operator, installation
from api.responses import answer
from provisioning.orphans import comparison
from provisioning.orphans.report import report_body

blueprint = Blueprint("manage_orphans", __name__, url_prefix="/provisioning/manage")


@blueprint.get("/orphans")
def show() -> Response:
    """Answer with the report; servers that do not answer in time are named in it."""
    authenticate_operator()
    report = comparison.build_report(installation())
    return answer({"status": "ok", "counts": report.counts(), **report_body(report)})
