"""The `provisioning` command for operators."""

import json
import re
import sys
from typing import Any

import click
from rich.table import Table

from provisioning import config as configuration
from provisioning.bootstrap import prepare_state
from provisioning.cli_credentials import credentials
from provisioning.cli_jobs import jobs, open_database, print_table, workers
from provisioning.cli_keys import keys
from provisioning.cli_manage_tokens import manage_tokens
from provisioning.cli_orphans import adopt, observe_group, orphans
from provisioning.cli_quotas import quotas
from provisioning.cli_servers import servers
from provisioning.cli_sweep import sweep
from provisioning.errors import ConfigurationError, ProvisioningError
from provisioning.events import newest_events
from provisioning.installation import Installation
from provisioning.limits import LIMITS, PREFIX
from provisioning.manage_tokens import local_operator
from provisioning.settings import KEYS
from provisioning.tokens import ID_WIDTH, TEXT_WIDTH, LocalTokens
from provisioning.validity import format_time
from provisioning.vault import Vault


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="provisioning-service")
def cli() -> None:
    """Operate a provisioning service. Settings come from the environment."""


@cli.command("config")
@click.option("--reference", is_flag=True, help="Print all keys with their defaults as Markdown.")
def show_config(reference: bool) -> None:
    """Print the effective configuration, secrets starred."""
    if reference:
        click.echo(configuration.reference(), nl=False)
        return
    config = configuration.load()
    for key in KEYS:
        value = config[key.name]
        shown = "********" if key.secret and _is_set(value) else value
        if isinstance(shown, tuple):
            shown = ",".join(map(str, shown))
        click.echo(f"{key.name}={'' if shown is None or not _is_set(shown) else shown}")
    for backend, configured in config.servers.items():
        for server in configured:
            click.echo(f"# {backend} server {server.name}: {server.location}")


def _is_set(value: Any) -> bool:
    return bool(value.reveal()) if hasattr(value, "reveal") else value not in ("", (), None)


@cli.group()
def backends() -> None:
    """The servers credentials are made on."""


@backends.command()
def check() -> None:
    """Connect to every configured server; say what works, and which right is missing."""
    table = Table("backend", "server", "state", "note")
    well = True
    for name, backend in Installation(configuration.load()).backends.items():
        for health in backend.check():
            well = well and health.alive
            state = "works" if health.alive else "does not work"
            table.add_row(name, health.server, state, health.message)
    print_table(table)
    sys.exit(0 if well else 1)


@cli.command()
def certificate() -> None:
    """Print the certificate of the authority that signs those of sandboxes, to be trusted."""
    # Where there are no sandboxes, its library need not be loaded.
    from provisioning.authority import read_authority

    vault = Vault(configuration.load()["ENCRYPTION_KEYS"])
    click.echo(read_authority(open_database(), vault).certificate_pem.decode(), nl=False)


@cli.group()
def db() -> None:
    """The state database."""


@db.command()
def upgrade() -> None:
    """Bring the schema to this version, and make the installation's code at first start."""
    prepare_state(open_database())


@cli.command("events")
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


@cli.group()
def tokens() -> None:
    """Local tokens, for an installation without a Storage API."""


def _checked(width: int) -> Any:
    def check(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None and not 0 < len(value) <= width:
            raise click.BadParameter(f"must have 1 to {width} characters", param=parameter)
        return value

    return check


def _check_project(context: click.Context, parameter: click.Parameter, value: str) -> str:
    # The token begins with it, and travels in a header.
    if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
        raise click.BadParameter("letters, digits, dot, dash and underscore", param=parameter)
    return str(_checked(ID_WIDTH)(context, parameter, value))


def _check_limits(
    _: click.Context, parameter: click.Parameter, value: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    # Unknown ones may be meant for others, but not these.
    for name, _limit in value:
        if name.startswith(PREFIX) and name not in LIMITS:
            raise click.BadParameter(f"'{name}' is no limit", param=parameter)
    return value


@tokens.command("create")
@click.option("--project", required=True, callback=_check_project, help="Project id.")
@click.option("--project-name", callback=_checked(TEXT_WIDTH), help="Default: the id.")
@click.option(
    "--person",
    callback=_checked(ID_WIDTH),
    help="Person (admin) id: tokens of one person share the login of their sandboxes.",
)
@click.option("--description", callback=_checked(TEXT_WIDTH), help="Shown in jobs.")
@click.option("--feature", "features", multiple=True, help="A project feature; repeatable.")
@click.option(
    "--limit",
    "limits",
    type=(str, click.IntRange(min=1)),
    multiple=True,
    metavar="NAME VALUE",
    callback=_check_limits,
    help="A project limit, such as mysql.sandbox.expirationSeconds 3600; repeatable.",
)
def create_token(
    project: str,
    project_name: str | None,
    person: str | None,
    description: str | None,
    features: tuple[str, ...],
    limits: tuple[tuple[str, int], ...],
) -> None:
    """Make a token and print it. It is shown this once: only its hash is stored."""
    token_id, token = LocalTokens(open_database()).create(
        project_id=project,
        project_name=project_name or project,
        person_id=person,
        description=description or "",
        features=list(features),
        limits=dict(limits),
        author=local_operator().author,
    )
    click.echo(f"token {token_id} of project {project}:", err=True)
    click.echo(token.reveal())


@tokens.command("list")
def list_tokens() -> None:
    """List the tokens; their texts are not kept."""
    table = Table("id", "project", "person", "description", "features", "state")
    for row in LocalTokens(open_database()).list():
        table.add_row(
            str(row.id),
            row.project_id,
            row.person_id or "",
            row.description,
            ", ".join(row.features),
            "revoked" if row.revoked_at else "good",
        )
    print_table(table)


@tokens.command("revoke")
@click.argument("token_id", type=int)
def revoke_token(token_id: int) -> None:
    """Refuse the token from now on. What it made stays until dropped or expired."""
    if not LocalTokens(open_database()).revoke(token_id, local_operator().author):
        raise click.ClickException(f"no good token has id {token_id}")
    click.echo(f"token {token_id} is revoked")


cli.add_command(jobs)
cli.add_command(keys)
cli.add_command(servers)
cli.add_command(workers)
cli.add_command(quotas)
cli.add_command(credentials)
cli.add_command(manage_tokens)
cli.add_command(orphans)
cli.add_command(adopt)
cli.add_command(observe_group)
cli.add_command(sweep)


def main() -> None:
    """Run the command; errors of configuration and of the state are one line each."""
    try:
        cli(standalone_mode=True)
    except (ConfigurationError, ProvisioningError) as problem:
        click.echo(f"provisioning: {problem}", err=True)
        sys.exit(1)
