"""Logins and grants on a server, as statements spell them."""

from collections.abc import Sequence

from provisioning.backends.base import Spec
from provisioning.backends.mysql.inventory import ANY_HOST
from provisioning.backends.mysql.server import Server, Statements
from provisioning.backends.naming import granted_database, quote_mysql_name


def account(spec: Spec) -> str:
    """Return the login as statements about accounts name it."""
    # Names hold only [A-Za-z0-9_] (`naming.build_name`), so backticks are all they need.
    return f"`{spec.user_name}`@`{ANY_HOST}`"


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
