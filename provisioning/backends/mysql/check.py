"""Looks whether a server answers, lets the admin login do its work, and is set up safely."""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from pymysql.constants import ER

from provisioning.backends.base import EngineError, EngineRefused, Health, LoginRefused
from provisioning.backends.mysql.server import Server, Statements
from provisioning.configuration.config import Limits

#: Errors that PyMySQL has no names for.
SECURE_TRANSPORT_REQUIRED, PASSWORD_NOT_VALID = 3159, 1819
MISSING_RIGHTS = {
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    ER.CANT_CREATE_USER_WITH_GRANT,
}
TLS_REQUIRED = "the server takes TLS connections alone, and none is configured: set tls_ca"
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
        return Health(name, False, explain(server, problem))


def explain(server: Server, problem: EngineError) -> str:
    """Return in an operator's words why a step failed, or the failure's own text."""
    config, text = server.config, str(problem.args[0])
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"the server's certificate is not trusted: it is not from an authority in tls_ca, or "
            f"not for the name {config.host}"
        )
    if problem.code == SECURE_TRANSPORT_REQUIRED:
        return TLS_REQUIRED
    if problem.code == PASSWORD_NOT_VALID:
        return (
            "the server's password policy refuses the service's passwords, which have 24 "
            f"characters: upper and lower letters, digits and underscores ({text})"
        )
    if problem.code in MISSING_RIGHTS:
        return (
            f"the admin login {config.user} lacks a right: GRANT ALL PRIVILEGES ON *.* TO it WITH "
            f"GRANT OPTION ({text})"
        )
    if problem.code == ER.ACCESS_DENIED_ERROR and not isinstance(problem, LoginRefused):
        # MariaDB has no word for it.
        if server.takes_tls_alone():
            return TLS_REQUIRED
        return (
            f"the admin login {config.user} is refused: its password is wrong, or there is no "
            f"account for connections from this host ({text})"
        )
    return text


def explain_refused_login(server: Server, text: str) -> str:
    """Return why a server refuses a new login with its password; ``text`` is what it said."""
    where = f"server {server.config.name}: "
    if server.config.require_tls and not server.config.tls_ca:
        return (
            f"{where}new logins have to use TLS (require_tls), and the service has none configured "
            "to try them with: set tls_ca"
        )
    with server.statements() as run:
        hosts = [str(host) for (host,) in run(_ANONYMOUS)]
    if hosts:
        drops = ", ".join(f"''@'{host}'" for host in hosts)
        return (
            f"{where}new logins are refused: an account without a name is taken before them for "
            f"connections from its host: DROP USER {drops}"
        )
    return text


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
