"""The operators' commands about credentials, of all projects."""

import json
import sys
from typing import Any

import click
from rich.table import Table

from provisioning.cli.operator import local_operator
from provisioning.cli.output import open_database, print_table
from provisioning.cli.sweep import wake_workers
from provisioning.configuration import config as configuration
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.durations import read_lifetime
from provisioning.credentials import administration
from provisioning.installation import Installation, build_installation
from provisioning.jobs.watching import JobWatch
from provisioning.state.enums import CredentialsState, JobStatus
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Job

SECRETS = frozenset({"secret", "pending_secret", "private_key"})
TIMES = frozenset(
    {
        "created_at",
        "touched_at",
        "expires_at",
        "protected_until",
        "grace_until",
        "attend_at",
        "warned_at",
        "noted_end",
        "dropped_at",
        "access_ended_at",
        "claim_until",
        "password_ends_at",
    }
)
wait_option = click.option(
    "--wait", "seconds", type=click.IntRange(min=0), default=0, help="Seconds to wait for its end."
)


@click.group("credentials")
def credentials() -> None:
    """Credentials, of all projects."""


@credentials.command("list")
@click.option("--project", help="Project id.")
@click.option("--token", help="Token id of the owner.")
@click.option("--backend", type=click.Choice(list(BACKENDS)))
@click.option("--type", "type_")
@click.option("--state", type=click.Choice([str(state) for state in CredentialsState]))
@click.option("--server", help="Name of the server.")
@click.option(
    "--expiring-within",
    type=click.IntRange(1, 10**6),
    metavar="HOURS",
    help="Only what expires in that time, the first to end first.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_credentials(
    project: str | None,
    token: str | None,
    backend: str | None,
    type_: str | None,
    state: str | None,
    server: str | None,
    expiring_within: int | None,
    limit: int,
) -> None:
    """List those that are not gone, the newest first."""
    table = Table("id", "backend", "type", "state", "project", "token", "server", "touch", "ends")
    found = administration.list_credentials(
        open_database(),
        limit,
        None if expiring_within is None else expiring_within * 3600,
        project_id=project,
        token_id=token,
        backend=backend,
        type=type_,
        state=state,
        server=server,
    )
    for row in found:
        table.add_row(
            str(row.id),
            row.backend,
            row.type,
            str(row.state),
            row.project_id,
            row.token_id,
            row.server,
            format_time(row.touched_at),
            format_time(row.expires_at) or "never",
        )
    print_table(table)


@credentials.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def removals(limit: int, as_json: bool) -> None:
    """List what is being removed, the oldest first, and what is in the way."""
    found = [_removal(*pair) for pair in administration.list_removals(open_database(), limit)]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    table = Table(
        "id", "backend", "server", "object", "access ended", "tries", "next try", "reason"
    )
    for removal in found:
        table.add_row(*("" if value is None else str(value) for value in removal.values()))
    print_table(table)


def _removal(row: Credentials, reason: str | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "backend": row.backend,
        "server": row.server,
        "object": row.object_name,
        "accessEnded": format_time(row.access_ended_at),
        "tries": row.attempts,
        "nextTry": format_time(row.not_before or None),
        "reason": reason,
    }


@credentials.command()
@click.argument("credentials_id", type=int)
def show(credentials_id: int) -> None:
    """Print all that is known of one but its secrets."""
    row = administration.get_credentials(open_database(), credentials_id)
    for column in (column.name for column in Credentials.__table__.columns):
        value = getattr(row, column)
        if column in TIMES or (column == "not_before" and value):
            value = format_time(value)
        if column not in SECRETS and value is not None:
            click.echo(f"{column}: {value}")


@credentials.command()
@click.argument("credentials_id", type=int)
def extend(credentials_id: int) -> None:
    """Start the lifetime of one anew, as its owner could."""
    installation = build_installation(configuration.load())
    extension = administration.extend_credentials(installation, local_operator(), credentials_id)
    ends = format_time(extension.expires_at) or "never"
    click.echo(f"credentials {credentials_id} end {ends}")


def _read_protection(_: click.Context, __: click.Parameter, text: str) -> int | None:
    try:
        return read_lifetime(text)
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


@credentials.command()
@click.argument("credentials_id", type=int)
@click.argument("seconds", metavar="DURATION", callback=_read_protection)
def protect(credentials_id: int, seconds: int | None) -> None:
    """Keep one for a time from now, such as 7d, whatever its expiration; none ends that."""
    installation = build_installation(configuration.load())
    row = administration.protect_credentials(
        installation, local_operator(), credentials_id, seconds
    )
    if row.protected_until is None:
        click.echo(f"credentials {credentials_id} are not protected any more")
    else:
        click.echo(
            f"credentials {credentials_id} are kept until {format_time(row.protected_until)}"
        )


@credentials.command()
@click.argument("credentials_id", type=int)
@wait_option
def drop(credentials_id: int, seconds: int) -> None:
    """Have a worker remove one, as its owner could."""
    installation = build_installation(configuration.load())
    job = administration.drop_credentials(installation, local_operator(), credentials_id)
    _finish(installation, job, seconds)


@credentials.command()
@click.argument("credentials_id", type=int)
@wait_option
def kill(credentials_id: int, seconds: int) -> None:
    """Have a worker end the sessions of one, as its owner could."""
    installation = build_installation(configuration.load())
    job = administration.kill_sessions(installation, local_operator(), credentials_id)
    _finish(installation, job, seconds)


@credentials.command("reset-password")
@click.argument("credentials_id", type=int)
@click.option("--end-sessions", is_flag=True, help="End its open sessions too.")
def reset_password(credentials_id: int, end_sessions: bool) -> None:
    """Give one a new password, as its owner could; only the owner can read it."""
    installation = build_installation(configuration.load())
    administration.reset_password(
        installation, local_operator(), credentials_id, end_sessions=end_sessions
    )
    click.echo(f"credentials {credentials_id} have a new password, which their owner can read")


def _finish(installation: Installation, job: Job, seconds: int) -> None:
    """Send workers a message for the job; when waiting for it, fail unless it succeeds."""
    if not wake_workers():
        click.echo("the broker does not answer: the job waits for its return", err=True)
    job = JobWatch(installation.database).wait(job, seconds)
    click.echo(f"job {job.id} is {job.status}")
    if seconds and job.status is not JobStatus.SUCCESS:
        sys.exit(1)
