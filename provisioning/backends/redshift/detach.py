"""Frees a login of what keeps it from being dropped, on Redshift.

It refuses DROP USER while the login owns something in the current database or stands in one
of its access lists, and has neither DROP OWNED nor REASSIGN OWNED: both are found in the
catalogs and removed piece by piece. Access lists are searched as text, since ``aclexplode`` is
not in its documentation. No value has a backslash: the driver would write ``E'...'``, which
PostgreSQL 8.0 does not know.
"""

import re
from collections.abc import Iterator

from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.server import Statements

_OWNED_RELATIONS = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_user u ON u.usesysid = c.relowner WHERE u.usename = %s AND c.relkind = %s"
)
_OWNED_ROUTINES = (
    "SELECT n.nspname, p.proname, oidvectortypes(p.proargtypes), p.prokind FROM pg_proc_info p "
    "JOIN pg_namespace n ON n.oid = p.pronamespace "
    "JOIN pg_user u ON u.usesysid = p.proowner WHERE u.usename = %s"
)
_OWNED_SCHEMAS = (
    "SELECT n.nspname FROM pg_namespace n JOIN pg_user u ON u.usesysid = n.nspowner "
    "WHERE u.usename = %s"
)

#: What was granted: a query that names each thing, and what the rights are revoked on. A login's
#: name is followed by ``=`` in an access list.
_GRANTED = (
    (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE POSITION(%s IN array_to_string(c.relacl, ',')) > 0 AND c.relkind IN ('r', 'v')",
        "ALL ON {}.{}",
    ),
    (
        "SELECT a.attname, n.nspname, c.relname FROM pg_attribute_info a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE POSITION(%s IN array_to_string(a.attacl, ',')) > 0",
        "ALL ({}) ON {}.{}",
    ),
    (
        "SELECT nspname FROM pg_namespace WHERE POSITION(%s IN array_to_string(nspacl, ',')) > 0",
        "ALL ON SCHEMA {}",
    ),
    (
        "SELECT datname FROM pg_database WHERE POSITION(%s IN array_to_string(datacl, ',')) > 0",
        "ALL ON DATABASE {}",
    ),
)

#: Rights on what will be made later: whose it will be, the schema or NULL for all, the kind of
#: thing, and the access list.
_DEFAULTS = (
    "SELECT u.usename, n.nspname, d.defaclobjtype, array_to_string(d.defaclacl, ',') "
    "FROM pg_default_acl d JOIN pg_user u ON u.usesysid = d.defacluser "
    "LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace "
    "WHERE u.usename = %s OR POSITION(%s IN array_to_string(d.defaclacl, ',')) > 0"
)
_KINDS = {"r": "TABLES", "f": "FUNCTIONS", "p": "PROCEDURES"}


def detach_login(run: Statements, login: str) -> None:
    """Remove what the login owns in this database, and every right it has or hands out."""
    _drop_owned(run, login)
    user, entry = quote_sql_name(login), f"{login}="
    for query, what in _GRANTED:
        for row in run(query, entry):
            names = [quote_sql_name(name) for name in row]
            run(f"REVOKE {what.format(*names)} FROM {user}")
    for owner, schema, kind, acl in run(_DEFAULTS, login, entry):
        scope = f"ALTER DEFAULT PRIVILEGES FOR USER {quote_sql_name(owner)}"
        if schema is not None:
            scope += f" IN SCHEMA {quote_sql_name(schema)}"
        things = _KINDS[kind]
        for grantee in grantees(acl) if owner == login else [user]:
            run(f"{scope} REVOKE ALL ON {things} FROM {grantee}")
        if owner == login and schema is None:
            # Rights that are for all schemas go away by being what they are by default.
            everybody = ", PUBLIC" if kind == "f" else ""
            run(f"{scope} GRANT ALL ON {things} TO {user}{everybody}")


def _drop_owned(run: Statements, login: str) -> None:
    for kind, word in (("v", "VIEW"), ("r", "TABLE")):
        for row in run(_OWNED_RELATIONS, login, kind):
            run(f"DROP {word} IF EXISTS {_qualified(*row)} CASCADE")
    for schema, name, arguments, kind in run(_OWNED_ROUTINES, login):
        signature = f"{_qualified(schema, name)}({arguments})"
        run(f"DROP PROCEDURE {signature}" if kind == "p" else f"DROP FUNCTION {signature} CASCADE")
    for (schema,) in run(_OWNED_SCHEMAS, login):
        run(f"DROP SCHEMA IF EXISTS {quote_sql_name(schema)} CASCADE")


def _qualified(schema: str, name: str) -> str:
    return f"{quote_sql_name(schema)}.{quote_sql_name(name)}"


def grantees(acl: str | None) -> Iterator[str]:
    """Return whom an access list such as ``user=r/admin,group g=a/admin,=X/admin`` names."""
    for name in re.findall(r"(?:^|,)([^=,]*)=", acl or ""):
        if not name:
            yield "PUBLIC"
        elif name.startswith("group "):
            yield f"GROUP {quote_sql_name(name.removeprefix('group '))}"
        else:
            yield quote_sql_name(name.strip('"'))
