"""What all commands share: the state database and tables on the terminal."""

import sys

from rich.console import Console
from rich.table import Table

from provisioning.configuration import config as configuration
from provisioning.state.database import Database

#: Columns of a line that no terminal cuts.
WIDE = 1000


def open_database() -> Database:
    """Return the state database of the environment."""
    config = configuration.load()
    return Database(config.state_url, config.state_connections)


def print_table(table: Table) -> None:
    """Print a table, for programs with each row whole and on one line."""
    if sys.stdout.isatty():
        Console().print(table)
    else:
        Console(soft_wrap=True, width=WIDE).print(table)
