"""Logins and grants on a server, as statements spell them."""

import hashlib
from collections.abc import Sequence

from provisioning.backends.base import Spec
from provisioning.backends.mysql.inventory import ANY_HOST
from provisioning.backends.mysql.server import Server, Statements
from provisioning.backends.naming import granted_database, quote_mysql_name
from provisioning.configuration.secrets import Secret


def account(spec: Spec) -> str:
    """Return the login as statements about accounts name it."""
    # Names hold only [A-Za-z0-9_] (`naming.build_name`), so backticks are all they need.
    return f"`{spec.user_name}`@`{ANY_HOST}`"


def native_hash(password: Secret) -> str:
    """Return what servers keep of a password under ``mysql_native_password``."""
    # The server's choice of a hash, which is compared and keeps nothing secret here.
    inner = hashlib.sha1(password.reveal().encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def open_login(server: Server) -> str:
    """Return a query of a login by host and name: nothing if it is missing or locked.

    It has the hash of the password if that alone decides, and an empty text otherwise.
    """
    if server.is_mariadb:
        return (
            "SELECT IF(JSON_VALUE(Priv, '$.plugin') = 'mysql_native_password' "
            "AND JSON_VALUE(Priv, '$.password_last_changed') <> 0 "
            "AND NOT JSON_EXISTS(Priv, '$.auth_or'), "
            "COALESCE(JSON_VALUE(Priv, '$.authentication_string'), ''), '') "
            "FROM mysql.global_priv WHERE Host = %s AND User = %s "
            "AND COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) = 0"
        )
    return (
        "SELECT IF(plugin = 'mysql_native_password' AND password_expired = 'N', "
        "authentication_string, '') FROM mysql.user "
        "WHERE Host = %s AND User = %s AND account_locked = 'N'"
    )


def grant_pattern(server: Server, spec: Spec) -> str:
    """Return the database as GRANT and REVOKE want it; both must spell it the same way."""
    return quote_mysql_name(granted_database(spec.object_name, wildcards=server.grant_wildcards))


def one_of(column: str, specs: Sequence[Spec]) -> str:
    """Return the condition of a column that takes a value for each of them."""
    return f"{column} IN ({', '.join(['%s'] * len(specs))})"


def count_databases(run: Statements, spec: Spec) -> int:
    """Return how many databases the login is granted."""
    ((count,),) = run(
        "SELECT COUNT(*) FROM mysql.db WHERE Host = %s AND User = %s", ANY_HOST, spec.user_name
    )
    return int(count)


def find_grants(specs: Sequence[Spec]) -> tuple[str, list[str]]:
    """Return a query, with its values, of the grants on the databases, however spelled."""
    names = [spec.object_name for spec in specs]
    query = (
        "SELECT CONCAT('a grant on ', Db) FROM mysql.db WHERE Host = %s "
        f"AND {one_of('User', specs)} AND ({one_of('Db', specs)} OR {one_of('Db', specs)})"
    )
    users = [spec.user_name for spec in specs]
    escaped = [granted_database(name, wildcards=True) for name in names]
    return query, [ANY_HOST, *users, *names, *escaped]
