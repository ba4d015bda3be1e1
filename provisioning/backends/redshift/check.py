"""Looks whether a server answers, lets the admin login do its work, and is set up safely."""

import re
from collections.abc import Mapping

from psycopg2 import errorcodes

from provisioning.backends.base import EngineError, Health
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.server import Server, Statements
from provisioning.configuration.config import Limits

_RIGHTS_ON_PUBLIC = "SELECT array_to_string(nspacl, ',') FROM pg_namespace WHERE nspname = 'public'"
#: The right to create, in the list of a schema, of everybody: the entry without a name.
_ANYBODY_CREATES = re.compile("(^|,)=[A-Z*]*C")
#: Functions that take locks which no table bounds.
_OPEN_LOCKS = """
SELECT count(*) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
AND proname ~ '^pg_(try_)?advisory_(xact_)?lock'
AND has_function_privilege('public', oid, 'EXECUTE')
"""


def check_server(server: Server, limits: Mapping[str, Limits]) -> Health:
    """Look at a server; what is wrong with it is told with the statement that helps.

    What makes it unsafe for tenants is told with its kind. ``limits`` are those of its logins, by
    type.
    """
    config = server.config
    try:
        with server.statements() as run:
            if lack := _missing_right(run, server):
                return Health(config.name, False, f"the admin login cannot {lack}")
            for catalog in (server.dialect.sessions, server.dialect.open_logins):
                run(f"SELECT COUNT(*) FROM ({catalog}) AS entries")
            warnings = _warnings(run, server, limits)
    except EngineError as problem:
        return Health(config.name, False, explain(server, problem))
    return Health(config.name, True, "; ".join([server.dialect.name, *warnings]))


def _warnings(run: Statements, server: Server, limits: Mapping[str, Limits]) -> list[str]:
    """Return what an operator should change on the server."""
    found = []
    ((rights,),) = run(_RIGHTS_ON_PUBLIC) or [(None,)]
    if _ANYBODY_CREATES.search(rights or ""):
        found.append(
            "every login may create in the schema public: "
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )
    if server.dialect.is_postgresql and run(_OPEN_LOCKS) != [(0,)]:
        found.append(
            "every login may take advisory locks, and fill the server's table of locks: take "
            "EXECUTE on them from PUBLIC"
        )
    found += [
        f"one {type_} login may take all connections"
        for type_, limit in sorted(limits.items())
        if not limit.connections
    ]
    return found


def _missing_right(run: Statements, server: Server) -> str | None:
    """Return what the admin login cannot do, with the statement that lets it, or None."""
    user, database = (quote_sql_name(name) for name in (server.config.user, server.config.database))
    if run("SELECT has_database_privilege(current_database(), 'CREATE')") != [(True,)]:
        return f"create schemas: GRANT CREATE ON DATABASE {database} TO {user}"
    if run(server.dialect.may_create_users) != [(True,)]:
        return f"create users: ALTER USER {user} {server.dialect.user_right}"
    return None


def explain(server: Server, problem: EngineError) -> str:
    """Return in an operator's words why a step failed, or the failure's own text.

    A login that fails has no code, only libpq's words.
    """
    config, text = server.config, str(problem.args[0])
    if "certificate verify failed" in text or "does not match host name" in text:
        return (
            "the server's certificate is not trusted: it is not from an authority in tls_ca, or "
            f"not for the name {config.host}"
        )
    if "no pg_hba.conf entry" in text:
        if "no encryption" in text or "SSL off" in text:
            return f"the server refuses connections without TLS: set tls_mode ({text})"
        return f"the server's pg_hba.conf has no line for connections from this host ({text})"
    if "password authentication failed" in text and f'"{config.user}"' in text:
        return f"the admin login {config.user} is refused: its password is wrong"
    if problem.code == errorcodes.INSUFFICIENT_PRIVILEGE:
        return f"the admin login {config.user} lacks a right ({text})"
    if problem.code == errorcodes.INVALID_PARAMETER_VALUE and "password" in text:
        return (
            "the server's password policy refuses the service's passwords, which have 24 "
            f"characters: upper and lower letters, digits and underscores ({text})"
        )
    return text
