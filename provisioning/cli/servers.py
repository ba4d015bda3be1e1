"""Commands for the servers that credentials are made on."""

import sys

import click
from rich.table import Table

from provisioning.backends.base import EngineError
from provisioning.backends.servers.admin_rotation import (
    RotationRefused,
    known_servers,
    rotate_admin,
)
from provisioning.cli.output import open_database, print_table
from provisioning.configuration import config as configuration
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import Vault
from provisioning.configuration.servers import KINDS
from provisioning.credentials.administration import count_credentials
from provisioning.installation import build_installation


@click.group()
def backends() -> None:
    """The servers credentials are made on."""


@backends.command()
def check() -> None:
    """Connect to every configured server; say what works, and which right is missing."""
    table = Table("backend", "server", "state", "note")
    well = True
    for name, backend in build_installation(configuration.load()).backends.items():
        for health in backend.check():
            well = well and health.alive
            state = "works" if health.alive else "does not work"
            table.add_row(name, health.server, state, health.message)
    print_table(table)
    sys.exit(0 if well else 1)


@click.command()
def certificate() -> None:
    """Print the certificate of the authority that signs those of sandboxes, to be trusted."""
    # Where there are no sandboxes, its library need not be loaded.
    from provisioning.backends.docker.certificate import read_authority

    vault = Vault(configuration.load().encryption_keys)
    click.echo(read_authority(open_database(), vault).certificate_pem.decode(), nl=False)


@click.group()
def servers() -> None:
    """The servers credentials are made on, configured or registered."""


@servers.command("list")
def list_servers() -> None:
    """List the servers, with what is on them; each is asked whether it works."""
    installation = build_installation(configuration.load())
    counts = count_credentials(installation.database)
    alive = {
        (name, health.server): health.alive
        for name, backend in installation.backends.items()
        for health in backend.check()
    }
    table = Table("name", "backend", "where", "credentials", "takes new", "alive")
    for backend, server in known_servers(installation):
        types = server.types or BACKENDS[backend].types
        place = (backend, server.name)
        table.add_row(
            server.name,
            backend,
            server.location,
            str(counts.pop(place, 0)),
            ", ".join(types) if server.takes_new else "no",
            "yes" if alive.get(place) else "no",
        )
    for (backend, name), count in sorted(counts.items()):
        table.add_row(name, backend, "not configured any more", str(count), "no", "no")
    print_table(table)


@servers.command()
@click.argument("backend", type=click.Choice(list(KINDS)))
@click.argument("name")
def rotate(backend: str, name: str) -> None:
    """Give a server's admin login a new password, while everything goes on.

    The new password is in the state alone, encrypted, and wins over the configured one from now
    on. Should this command end anywhere, repeat it: it finishes what it began.
    """
    try:
        rotate_admin(build_installation(configuration.load()), backend, name)
    except (RotationRefused, EngineError) as problem:
        raise click.ClickException(str(problem.args[0])) from None
    click.echo(f"{backend} server {name}: the admin login has a new password")
