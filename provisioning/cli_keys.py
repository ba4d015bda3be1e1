"""The operators' commands about the keys that secrets are stored under."""

import click

from provisioning import config as configuration
from provisioning.cli_jobs import open_database
from provisioning.rekeying import SealedColumn, Tally, rotate_keys
from provisioning.vault import Vault, generate_key


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
    vault = Vault(configuration.load()["ENCRYPTION_KEYS"])
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
