"""Where Redshift and PostgreSQL differ, all in one place.

The same statements run on both, except for what is here. What each server is, it says itself
in ``version()``: Redshift names itself behind the PostgreSQL version it descends from.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """The statements and abilities that differ."""

    name: str
    #: Sessions as (process id, user name, database); Redshift pads names with blanks.
    sessions: str
    #: Session-level advisory locks, which fence off a stale holder.
    has_advisory_locks: bool
    #: ``CREATE SCHEMA ... QUOTA n GB``.
    has_schema_quota: bool
    #: A role without superuser rights must be a member of the owner it creates a schema for.
    needs_membership: bool
    #: Whether the catalog shows a login's connection limit, by which a locked one is known.
    shows_connection_limit: bool
    #: The column of ``pg_default_acl`` that names whose future objects are granted.
    default_acl_owner: str
    #: Run on each new admin connection.
    settings: tuple[str, ...]


POSTGRESQL = Dialect(
    name="PostgreSQL",
    sessions="SELECT pid, usename, datname FROM pg_stat_activity WHERE usename IS NOT NULL",
    has_advisory_locks=True,
    has_schema_quota=False,
    needs_membership=True,
    shows_connection_limit=True,
    default_acl_owner="defaclrole",
    settings=("SET lock_timeout = '2s'",),
)
REDSHIFT = Dialect(
    name="Redshift",
    sessions="SELECT process, TRIM(user_name), TRIM(db_name) FROM stv_sessions",
    has_advisory_locks=False,
    has_schema_quota=True,
    needs_membership=False,
    shows_connection_limit=False,
    default_acl_owner="defacluser",
    settings=(),
)


def detect(version: str) -> Dialect:
    """Return the dialect of a server by what its ``version()`` says."""
    return REDSHIFT if "redshift" in version.lower() else POSTGRESQL
