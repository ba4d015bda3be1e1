"""How an answer names the job that goes on after it."""

from flask import Response

from api.requests import public_root
from api.responses import answer, quota_warning
from provisioning.state.models import Job


def accepted(
    job: Job, headers: dict[str, str] | None = None, warning: str | None = None
) -> Response:
    """Return the 202 of work that goes on (contract 7.3)."""
    body = {"id": job.id, "url": job_url(job.id), "status": str(job.status)}
    body |= quota_warning(warning)
    return answer(body, 202, headers)


def job_url(id_: int | str) -> str:
    """Return the absolute address of a job (contract 1.3), or with '' what comes before its id."""
    return f"{public_root()}/queue/job/{id_}"
