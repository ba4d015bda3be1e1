"""The `provisioning` command for operators."""

import sys
from typing import Any

import click

from provisioning.cli.access import manage_tokens, quotas, tokens
from provisioning.cli.check import check
from provisioning.cli.credentials import credentials
from provisioning.cli.jobs import jobs, workers
from provisioning.cli.orphans import adopt, observe_group, orphans
from provisioning.cli.servers import backends, certificate, servers
from provisioning.cli.state import db, keys, show_events
from provisioning.cli.sweep import sweep
from provisioning.configuration import config as configuration
from provisioning.configuration.logs import configure_logs
from provisioning.configuration.settings import KEYS
from provisioning.errors import ConfigurationError, ProvisioningError


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
    values = config.by_variable()
    for key in KEYS:
        value = values[key.name]
        shown = "********" if key.secret and _is_set(value) else value
        if isinstance(shown, tuple):
            shown = ",".join(map(str, shown))
        click.echo(f"{key.name}={'' if shown is None or not _is_set(shown) else shown}")
    for backend, configured in config.servers.items():
        for server in configured:
            click.echo(f"# {backend} server {server.name}: {server.location}")


def _is_set(value: Any) -> bool:
    return bool(value.reveal()) if hasattr(value, "reveal") else value not in ("", (), None)


for command in (
    adopt,
    backends,
    certificate,
    check,
    credentials,
    db,
    jobs,
    keys,
    manage_tokens,
    observe_group,
    orphans,
    quotas,
    servers,
    show_events,
    sweep,
    tokens,
    workers,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; errors of configuration and of the state are one line each.

    What is logged meanwhile goes to standard error: it is no part of a command's answer.
    """
    configure_logs("console", "warning")
    try:
        cli(standalone_mode=True)
    except (ConfigurationError, ProvisioningError) as problem:
        click.echo(f"provisioning: {problem}", err=True)
        sys.exit(1)
