"""Whether a MySQL or MariaDB server works for us."""

from contextlib import suppress

from provisioning.backends.base import EngineError, EngineRefused, Health
from provisioning.backends.mysql.server import Server


def check_server(server: Server) -> Health:
    """Look whether a server answers, and lets its admin login do its work."""
    try:
        with server.statements() as run:
            ((version,),) = run("SELECT VERSION()")
            with suppress(EngineRefused):
                run("SELECT COUNT(*) FROM mysql.db WHERE Host = ''")
                return Health(server.config.name, True, f"version {version}")
            return Health(
                server.config.name, False, "the admin login cannot read the mysql database"
            )
    except EngineError as problem:
        return Health(server.config.name, False, str(problem.args[0]))
