"""Commands for the servers that credentials are made on."""

import sys
from collections.abc import Iterator

import click
from rich.table import Table

from provisioning.backends.base import EngineError, Health
from provisioning.backends.servers.admin_rotation import (
    RotationRefused,
    known_servers,
    rotate_admin,
)
from provisioning.cli.operator import local_operator
from provisioning.cli.output import open_database, print_table
from provisioning.configuration import config as configuration
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import Vault
from provisioning.configuration.servers import KINDS
from provisioning.credentials.administration import ServerCounts, count_credentials
from provisioning.credentials.trial import check_deeply
from provisioning.installation import Installation, build_installation


@click.group()
def backends() -> None:
    """The servers credentials are made on."""


@backends.command()
@click.option("--deep", is_flag=True, help="Make a credential on each database, and drop it.")
def check(deep: bool) -> None:
    """Connect to every configured server; say what works, and which right is missing.

    What is missing for logins, such as a password that a server's policy takes, only --deep sees.
    """
    table = Table("backend", "server", "state", "note")
    well = True
    installation = build_installation(configuration.load())
    found = check_deeply(installation, local_operator()) if deep else _check(installation)
    for name, health in found:
        well = well and health.alive
        state = "works" if health.alive else "does not work"
        table.add_row(name, health.server, state, health.message)
    print_table(table)
    sys.exit(0 if well else 1)


def _check(installation: Installation) -> Iterator[tuple[str, Health]]:
    for name, backend in installation.backends.items():
        for health in backend.check():
            yield name, health


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
    table = Table(
        "name", "backend", "where", "credentials", "maximum", "leaving", "takes new", "alive"
    )
    for backend, server in known_servers(installation):
        types = server.types or BACKENDS[backend].types
        place = (backend, server.name)
        count, maximum = counts.pop(place, ServerCounts()), server.max_credentials
        full = 0 < maximum <= count.live
        table.add_row(
            server.name,
            backend,
            server.location,
            str(count.live),
            f"{maximum}, full" if full else str(maximum or "-"),
            str(count.leaving),
            ", ".join(types) if server.takes_new else "no",
            "yes" if alive.get(place) else "no",
        )
    for (backend, name), count in sorted(counts.items()):
        texts = ("not configured any more", str(count.live), "-", str(count.leaving), "no", "no")
        table.add_row(name, backend, *texts)
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
