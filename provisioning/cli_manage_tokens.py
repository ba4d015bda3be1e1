"""The operators' commands about management tokens."""

import click
from rich.table import Table

from provisioning.cli_jobs import open_database, print_table
from provisioning.manage_tokens import ManageTokens, local_operator
from provisioning.tokens import TEXT_WIDTH
from provisioning.validity import format_time


@click.group("manage-tokens")
def manage_tokens() -> None:
    """Tokens of operators, for calls of /provisioning/manage."""


@manage_tokens.command("create")
@click.option("--description", required=True, help="Whose it is, and what for.")
def create_token(description: str) -> None:
    """Make a token and print it. It is shown this once: only its hash is stored."""
    if not 0 < len(description) <= TEXT_WIDTH:
        raise click.BadParameter(f"must have 1 to {TEXT_WIDTH} characters")
    token_id, token = ManageTokens(open_database()).create(description, local_operator().author)
    click.echo(f"management token {token_id}:", err=True)
    click.echo(token.reveal())


@manage_tokens.command("list")
def list_tokens() -> None:
    """List the tokens; their texts are not kept."""
    table = Table("id", "description", "created", "state")
    for row in ManageTokens(open_database()).list():
        state = f"revoked {format_time(row.revoked_at)}" if row.revoked_at else "good"
        table.add_row(str(row.id), row.description, format_time(row.created_at), state)
    print_table(table)


@manage_tokens.command("revoke")
@click.argument("token_id", type=int)
def revoke_token(token_id: int) -> None:
    """Refuse the token from now on."""
    if not ManageTokens(open_database()).revoke(token_id, local_operator().author):
        raise click.ClickException(f"no good management token has id {token_id}")
    click.echo(f"management token {token_id} is revoked")
