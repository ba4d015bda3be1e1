"""Looks whether a server answers, lets the admin login do its work, and is set up safely."""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from provisioning.backends.base import EngineError, EngineRefused, Health
from provisioning.backends.mysql.server import Server, Statements
from provisioning.configuration.config import Limits

NO_TYPES: Mapping[str, Limits] = MappingProxyType({})
#: A login without a name is open to everybody, or everybody's name matches it.
_ANONYMOUS = "SELECT Host FROM mysql.user WHERE User = '' ORDER BY Host"
#: Tenants never have FILE; a login that has it and no other power is somebody's mistake.
_WRITERS = (
    "SELECT User, Host FROM mysql.user WHERE File_priv = 'Y' AND Super_priv = 'N' "
    "ORDER BY User, Host"
)


def check_server(server: Server, limits: Mapping[str, Limits] = NO_TYPES) -> Health:
    """Look at a server; its version comes with what makes it unsafe for tenants.

    ``limits`` are those of its logins, by type.
    """
    name = server.config.name
    try:
        with server.statements() as run:
            ((version,),) = run("SELECT VERSION()")
            with suppress(EngineRefused):
                run("SELECT COUNT(*) FROM mysql.db WHERE Host = ''")
                return Health(
                    name, True, "; ".join([f"version {version}", *_warnings(run, server, limits)])
                )
            return Health(name, False, "the admin login cannot read the mysql database")
    except EngineError as problem:
        return Health(name, False, str(problem.args[0]))


def _warnings(run: Statements, server: Server, limits: Mapping[str, Limits]) -> list[str]:
    """Return what an operator should change on the server."""
    found = [f"anonymous account ''@'{host}'" for (host,) in run(_ANONYMOUS)]
    variables = dict(
        run(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN "
            "('have_symlink', 'secure_file_priv', 'max_user_connections')"
        )
    )
    if variables.get("have_symlink") == "YES":
        found.append("symbolic links are on: tables can be made outside of the data directory")
    # MySQL lists NULL, which allows no directory, as NULL, and MariaDB lists "any" so.
    if variables.get("secure_file_priv") in ((None, "") if server.is_mariadb else ("",)):
        found += [
            f"'{user}'@'{host}' may write files anywhere: secure_file_priv is empty"
            for user, host in run(_WRITERS)
        ]
    if variables.get("max_user_connections") == "0":
        found += [
            f"one {type_} login may take all connections"
            for type_, limit in sorted(limits.items())
            if not limit.connections
        ]
    return found
