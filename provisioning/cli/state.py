"""Commands for the state database: its schema, its events and its keys."""

import json

import click

from provisioning.cli.output import open_database
from provisioning.configuration import config as configuration
from provisioning.configuration.secrets import Vault, generate_key
from provisioning.state.bootstrap import prepare_state
from provisioning.state.events import newest_events
from provisioning.state.formats import format_time
from provisioning.state.key_rotation import SealedColumn, Tally, rotate_keys


@click.group()
def db() -> None:
    """The state database."""


@db.command()
def upgrade() -> None:
    """Bring the schema to this version, and make the installation's code at first start."""
    prepare_state(open_database())


@click.command("events")
@click.option("--job", type=int, help="Of one job.")
@click.option("--credentials", type=int, help="Of one credential.")
@click.option("--project", help="Of one project.")
@click.option("--last", type=click.IntRange(1, 10_000), default=100, show_default=True)
def show_events(job: int | None, credentials: int | None, project: str | None, last: int) -> None:
    """Print the newest events as lines of JSON, with the failures that callers do not see."""
    wanted = {"job_id": job, "credentials_id": credentials, "project_id": project}
    columns = {name: value for name, value in wanted.items() if value is not None}
    for row in newest_events(open_database(), last, **columns):
        event = {column.name: getattr(row, column.name) for column in row.__table__.columns}
        click.echo(json.dumps({**event, "time": format_time(row.time)}, ensure_ascii=False))


@click.group()
def keys() -> None:
    """Keys that passwords are stored under."""


@keys.command()
def generate() -> None:
    """Print a new key for ENCRYPTION_KEYS."""
    click.echo(generate_key().reveal())


@keys.command()
def rotate() -> None:
    """Re-encrypt all that is stored with the first of ENCRYPTION_KEYS, while all goes on.

    Before, restart every process with the new key in front of the old ones. After, the old ones
    can go, if this command says so. It can be ended and started again at any time.
    """
    vault = Vault(configuration.load().encryption_keys)
    left = rotate_keys(open_database(), vault, _report)
    for column, tally in left.items():
        if tally.unreadable:
            click.echo(f"{column}: no configured key opens {tally.unreadable} values")
        if tally.old:
            click.echo(f"{column}: {tally.old} values under an older key come back")
    if left:
        raise click.ClickException(
            "not all is under the first key: does every process have it, and in front?"
        )
    click.echo("everything is under the first key: the other keys can be removed")


def _report(column: SealedColumn, tally: Tally) -> None:
    click.echo(f"{column}: {tally.old} of {tally.looked} values were under an older key")
