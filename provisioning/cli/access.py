"""Commands for who may call: tokens, management tokens and quotas."""

import re
from typing import Any

import click
from rich.table import Table

from provisioning.access.management_tokens import ManageTokens
from provisioning.access.quotas import list_uses
from provisioning.access.tokens import ID_WIDTH, TEXT_WIDTH, LocalTokens
from provisioning.cli.operator import local_operator
from provisioning.cli.output import open_database, print_table
from provisioning.configuration import config as configuration
from provisioning.configuration.quota_limits import LIMITS, PREFIX
from provisioning.state.formats import format_time


@click.group()
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


@click.group("manage-tokens")
def manage_tokens() -> None:
    """Tokens of operators, for calls of /provisioning/manage."""


@manage_tokens.command("create")
@click.option("--description", required=True, help="Whose it is, and what for.")
def create_management_token(description: str) -> None:
    """Make a token and print it. It is shown this once: only its hash is stored."""
    if not 0 < len(description) <= TEXT_WIDTH:
        raise click.BadParameter(f"must have 1 to {TEXT_WIDTH} characters")
    token_id, token = ManageTokens(open_database()).create(description, local_operator().author)
    click.echo(f"management token {token_id}:", err=True)
    click.echo(token.reveal())


@manage_tokens.command("list")
def list_management_tokens() -> None:
    """List the tokens; their texts are not kept."""
    table = Table("id", "description", "created", "state")
    for row in ManageTokens(open_database()).list():
        state = f"revoked {format_time(row.revoked_at)}" if row.revoked_at else "good"
        table.add_row(str(row.id), row.description, format_time(row.created_at), state)
    print_table(table)


@manage_tokens.command("revoke")
@click.argument("token_id", type=int)
def revoke_management_token(token_id: int) -> None:
    """Refuse the token from now on."""
    if not ManageTokens(open_database()).revoke(token_id, local_operator().author):
        raise click.ClickException(f"no good management token has id {token_id}")
    click.echo(f"management token {token_id} is revoked")


@click.command()
@click.option("--project", help="Of one project.")
def quotas(project: str | None) -> None:
    """Show what projects use against their limits, and tokens that have limits of their own.

    The limits are those that held at a project's last creation.
    """
    table = Table("project", "token", PREFIX + "...", "used", "soft limit", "limit")
    for use in list_uses(open_database(), configuration.load(), project):
        bounds = ("" if bound is None else str(bound) for bound in (use.soft, use.hard))
        table.add_row(use.project_id, use.token_id or "", use.what, str(use.used), *bounds)
    print_table(table)
