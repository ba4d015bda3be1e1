from collections.abc import Sequence

from sqlalchemy import select

from provisioning import errors
from provisioning.state.database import Database
from provisioning.state.formats import read_id
from provisioning.state.models import Job


def find_job(database: Database, project_id: str, job_id: str) -> Job:
    """Return a job of the project; raise ``JobNotFound`` (contract 4.2, 9.1.6)."""
    number = read_id(job_id)
    if number is None:
        raise errors.JobNotFound(job_id)
    with database.read() as session:
        job = session.get(Job, number)
    if job is None or job.project_id != project_id:
        raise errors.JobNotFound(job_id)
    return job


def list_jobs(database: Database, limit: int, **wanted: str | None) -> Sequence[Job]:
    """Return the newest jobs whose columns have the values that are given."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Job, column) == value)
    with database.read() as session:
        return session.scalars(query).all()


def get_job(database: Database, job_id: int) -> Job:
    """Return a job of any project; raise ``JobNotFound``."""
    with database.read() as session:
        job = session.get(Job, job_id)
    if job is None:
        raise errors.JobNotFound(str(job_id))
    return job
