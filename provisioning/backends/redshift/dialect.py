"""Where Redshift and PostgreSQL differ, all in one place.

The same statements run on both, except for what is here and, for Redshift alone, in
``detach``. What each server is, it says itself in ``version()``: Redshift names itself behind
the PostgreSQL version it descends from, 8.0.2.
"""

from dataclasses import dataclass

from psycopg2 import errorcodes


@dataclass(frozen=True)
class Dialect:
    """The statements and abilities that differ."""

    name: str
    #: Sessions as (process id, user name, database); Redshift pads names with blanks.
    sessions: str
    #: Logins as (id, name), without those that half of a drop left with a connection limit of 0.
    open_logins: str
    #: What ``CONNECTION LIMIT`` takes for no limit.
    unlimited: str
    #: PostgreSQL names sessions, blocking processes and objects (``pg_identify_object``), knows
    #: prepared transactions, advisory locks, ``PASSWORD NULL`` and ``DROP OWNED BY``, and lets a
    #: role without superuser rights create a schema only for an owner whose member it is. Redshift
    #: has none of these, but ``CREATE SCHEMA ... QUOTA n GB``.
    is_postgresql: bool
    #: SQLSTATE of a DROP USER that is refused because of what the login owns or was granted.
    still_needed: str
    #: The right to create users, and a query that tells whether the admin has it.
    user_right: str
    may_create_users: str
    #: Run on each new admin connection.
    settings: tuple[str, ...]


POSTGRESQL = Dialect(
    name="PostgreSQL",
    sessions="SELECT pid, usename, datname FROM pg_stat_activity WHERE usename IS NOT NULL",
    open_logins="SELECT oid, rolname FROM pg_roles WHERE rolconnlimit <> 0",
    unlimited="-1",
    is_postgresql=True,
    still_needed=errorcodes.DEPENDENT_OBJECTS_STILL_EXIST,
    user_right="CREATEROLE",
    may_create_users="SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user",
    settings=("SET lock_timeout = '2s'", "SET search_path = pg_catalog, pg_temp"),
)
REDSHIFT = Dialect(
    name="Redshift",
    sessions="SELECT process, TRIM(user_name), TRIM(db_name) FROM stv_sessions",
    # The limit is a text there, and NULL where there is none.
    open_logins=(
        "SELECT usesysid, usename FROM pg_user_info WHERE COALESCE(useconnlimit, '') <> '0'"
    ),
    unlimited="UNLIMITED",
    is_postgresql=False,
    still_needed=errorcodes.OBJECT_IN_USE,
    user_right="CREATEUSER",
    may_create_users="SELECT usesuper FROM pg_user WHERE usename = current_user",
    settings=("SET search_path TO pg_catalog",),
)


def detect(version: str) -> Dialect:
    """Return the dialect of a server by what its ``version()`` says."""
    return REDSHIFT if "redshift" in version.lower() else POSTGRESQL
