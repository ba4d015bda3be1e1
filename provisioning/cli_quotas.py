"""The operators' command about quotas."""

import click
from rich.table import Table

from provisioning import config as configuration
from provisioning.cli_jobs import open_database, print_table
from provisioning.limits import PREFIX
from provisioning.quotas import list_uses


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
