"""The operators' commands about jobs and workers."""

import json
import subprocess
import sys

import click
from rich.table import Table

from provisioning.cli.operator import local_operator
from provisioning.cli.output import open_database, print_table
from provisioning.configuration import config as configuration
from provisioning.configuration.catalog import BACKENDS
from provisioning.jobs import administration, reading
from provisioning.state.enums import UNFINISHED_JOBS, JobStatus
from provisioning.state.formats import format_time
from provisioning.state.models import Job

#: Seconds that workers have to answer, and that asking them may take, on a busy machine too.
ANSWER_SECONDS, PING_SECONDS = 2, 40
TIMES = ("created_at", "started_at", "ended_at", "claim_until")


@click.group()
def jobs() -> None:
    """The queue of jobs, of all projects."""


@jobs.command("list")
@click.option("--status", type=click.Choice([str(status) for status in JobStatus]))
@click.option("--backend", type=click.Choice(list(BACKENDS)))
@click.option("--project", help="Project id.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_jobs(status: str | None, backend: str | None, project: str | None, limit: int) -> None:
    """List the newest jobs."""
    table = Table("id", "status", "command", "backend", "project", "created", "tries", "failure")
    found = reading.list_jobs(
        open_database(), limit, status=status, backend=backend, project_id=project
    )
    for job in found:
        table.add_row(
            str(job.id),
            str(job.status),
            str(job.command),
            job.backend,
            job.project_id,
            format_time(job.created_at),
            str(job.attempts),
            job.failure or "",
        )
    print_table(table)


@jobs.command()
@click.argument("job_id", type=int)
def show(job_id: int) -> None:
    """Print all that is known of a job but its encrypted request."""
    job = reading.get_job(open_database(), job_id)
    for column in (column.name for column in Job.__table__.columns):
        value = getattr(job, column)
        if column in TIMES or (column == "not_before" and value):
            value = format_time(value)
        elif isinstance(value, dict | list):
            value = json.dumps(value)
        if column != "request" and value is not None:
            click.echo(f"{column}: {value}")


@jobs.command()
@click.argument("job_id", type=int)
def kill(job_id: int) -> None:
    """Kill a job: one that waits never starts, one that runs ends and is cleaned up."""
    job = administration.kill_job(open_database(), local_operator(), job_id)
    click.echo(f"job {job_id} is {job.status}")


@jobs.command()
@click.argument("job_id", type=int)
def retry(job_id: int) -> None:
    """Try a job that pauses now, or the removal that a finished one has left behind."""
    database = open_database()
    if administration.retry_job(database, local_operator(), job_id):
        click.echo(f"job {job_id} is tried again at the next sweep")
        return
    if reading.get_job(database, job_id).status in UNFINISHED_JOBS:
        raise click.ClickException(f"job {job_id} does not pause")
    raise click.ClickException(f"job {job_id} is finished and has left no removal that pauses")


@click.command()
def workers() -> None:
    """Show who works on what, by the claims in the state, and who answers over the broker."""
    config = configuration.load()
    table = Table("process", "silent for", "jobs", "credentials")
    for holder in administration.find_holders(open_database()):
        silent = max(config.claim_seconds - holder.left / 1000, 0)
        table.add_row(
            holder.name,
            f"{silent:.0f} s",
            " ".join(map(str, holder.jobs)),
            " ".join(map(str, holder.credentials)),
        )
    print_table(table)
    answers = ping_workers()
    click.echo(f"answering over the broker: {', '.join(answers) or 'nobody'}")


def ping_workers() -> list[str]:
    """Return the Celery workers that answer; none without a broker.

    Celery's own command asks them: the domain does not know Celery.
    """
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "workers.app"]
    command += ["inspect", "ping", "--json", "--timeout", str(ANSWER_SECONDS)]
    try:
        asked = subprocess.run(command, capture_output=True, timeout=PING_SECONDS, check=True)
        return sorted(json.loads(asked.stdout))
    except (subprocess.SubprocessError, ValueError):
        return []
