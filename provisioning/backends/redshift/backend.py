"""What is done on a Redshift or PostgreSQL server for a workspace: a login and its schema.

Redshift has no DROP OWNED and no REASSIGN OWNED, so what depends on a login is found in the
catalogs and removed piece by piece, on PostgreSQL too.
"""

import time
from typing import Any

import psycopg2
from psycopg2 import errorcodes

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    Health,
    NameInUse,
    Owner,
    Placement,
    Spec,
)
from provisioning.backends.fleet import Fleet
from provisioning.backends.redshift.server import Server, Statements, translate
from provisioning.claims import Lease
from provisioning.config import Limits
from provisioning.failpoints import failpoint
from provisioning.naming import (
    DATABASE_NAME_LIMIT,
    USER_NAME_LIMIT,
    build_name,
    quote_sql_name,
)
from provisioning.servers import PostgresServer
from provisioning.vault import Secret, generate_password

_USER_EXISTS = {errorcodes.DUPLICATE_OBJECT}
_SCHEMA_EXISTS = {errorcodes.DUPLICATE_SCHEMA}
_DEPENDS = {errorcodes.DEPENDENT_OBJECTS_STILL_EXIST}
_UNDEFINED = {errorcodes.UNDEFINED_OBJECT, errorcodes.INVALID_SCHEMA_NAME}
_FULL_LOGIN = {errorcodes.TOO_MANY_CONNECTIONS}

#: Seconds to wait for the end of the session that tried the new login.
OWN_SESSION_PATIENCE = 2.0
#: Seconds until ended sessions must be gone.
SESSIONS_PATIENCE = 8.0
#: Seconds after a credential's end at which the database itself refuses its password: insurance
#: against a missed sweep, late enough never to come before it.
DOOR_MARGIN = 3600


class RedshiftBackend:
    """Workspaces on Redshift, or on PostgreSQL under the name ``postgresql`` (contract 10)."""

    def __init__(
        self,
        name: str,
        servers: tuple[PostgresServer, ...],
        limits: dict[str, Limits],
        timeout: int,
        connections: int,
    ) -> None:
        self.name = name
        self._servers = Fleet(Server(config, timeout, connections) for config in servers)
        self._limits = limits

    def close(self) -> None:
        self._servers.close()

    # Pure ---------------------------------------------------------------------------

    def placements(self, type_: str) -> list[Placement]:
        return self._servers.placements(type_)

    def shares_login(self, type_: str) -> bool:
        return False

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        # The server folds unquoted names to lower case, so lower case is what callers see.
        number = str(credentials_id)
        return Spec(
            credentials_id,
            type_,
            server,
            build_name(prefix, "sapi_workspace", number, limit=USER_NAME_LIMIT).lower(),
            build_name(prefix, "workspace", number, limit=DATABASE_NAME_LIMIT).lower(),
        )

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        config = self._servers[spec.server].config
        return {
            "hostname": config.public_host,
            "port": config.public_port,
            "db": config.database,
            "schema": spec.object_name,
            "workspaceId": str(spec.credentials_id),
            "user": spec.user_name,
            "password": password.reveal(),
        }

    # Create -------------------------------------------------------------------------

    def create(self, spec: Spec, password: Secret, lease: Lease) -> None:
        server = self._servers[spec.server]
        with server.statements() as run:
            _fence(run, server, spec, lease)
            failpoint("create.locked")
            self._create_login(run, spec, password, lease)
            failpoint("create.login")
            self._set_up_login(run, server, spec)
            failpoint("create.settings")
            self._create_schema(run, server, spec, lease)
            failpoint("create.schema")
            _release(run, server)
        _verify_login(server, spec, password)
        failpoint("create.verified")

    def _create_login(self, run: Statements, spec: Spec, password: Secret, lease: Lease) -> None:
        user, plain = quote_sql_name(spec.user_name), password.reveal()
        options = f"PASSWORD %s VALID UNTIL %s CONNECTION LIMIT {self._connection_limit(spec)}"
        until = _door_closes(spec.expires_at)
        if run.ignoring(_USER_EXISTS, f"CREATE USER {user} WITH {options}", plain, until):
            return
        if lease.token == 1:
            raise NameInUse(f"server {spec.server}: user {spec.user_name} exists")
        run(f"ALTER USER {user} WITH {options}", plain, until)

    def _connection_limit(self, spec: Spec) -> int:
        return self._limits[spec.type].connections or -1

    def _set_up_login(self, run: Statements, server: Server, spec: Spec) -> None:
        user = quote_sql_name(spec.user_name)
        run(f"ALTER USER {user} SET search_path = {quote_sql_name(spec.object_name)}")
        seconds = self._limits[spec.type].statement_seconds
        run(f"ALTER USER {user} SET statement_timeout = {seconds * 1000}")
        if server.dialect.needs_membership:
            run(f"GRANT {user} TO CURRENT_USER")

    def _create_schema(self, run: Statements, server: Server, spec: Spec, lease: Lease) -> None:
        schema, user = quote_sql_name(spec.object_name), quote_sql_name(spec.user_name)
        quota = ""
        if server.dialect.has_schema_quota and server.config.schema_quota_gb:
            quota = f" QUOTA {server.config.schema_quota_gb} GB"
        if run.ignoring(_SCHEMA_EXISTS, f"CREATE SCHEMA {schema} AUTHORIZATION {user}{quota}"):
            return
        if lease.token == 1:
            run(f"DROP USER {user}")
            raise NameInUse(f"server {spec.server}: schema {spec.object_name} exists")
        run(f"ALTER SCHEMA {schema} OWNER TO {user}")

    def prolong(self, spec: Spec) -> None:
        until = _door_closes(spec.expires_at)
        with self._servers[spec.server].statements() as run:
            run(f"ALTER USER {quote_sql_name(spec.user_name)} VALID UNTIL %s", until)

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        server = self._servers[spec.server]
        limit = " AND r.rolconnlimit <> 0" if server.dialect.shows_connection_limit else ""
        joined = " JOIN pg_roles r ON r.oid = u.usesysid" if limit else ""
        with server.statements() as run:
            ((found,),) = run(
                "SELECT COUNT(*) FROM pg_namespace n "
                f"JOIN pg_user u ON u.usesysid = n.nspowner{joined} "
                f"WHERE n.nspname = %s AND u.usename = %s{limit}",
                spec.object_name,
                spec.user_name,
            )
        return bool(found)

    def in_use(self, spec: Spec) -> bool:
        return bool(self._servers[spec.server].sessions.databases_of(spec.user_name))

    def check(self) -> list[Health]:
        return [_check(server) for server in self._servers]

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        server = self._servers[spec.server]
        with server.statements() as run:
            lease.check()
            return _end_sessions(run, server, spec)

    def drop(self, spec: Spec, lease: Lease) -> None:
        server = self._servers[spec.server]
        user = quote_sql_name(spec.user_name)
        with server.statements() as run:
            _fence(run, server, spec, lease)
            failpoint("drop.locked")
            # A dropped user's session loses its name in the catalog, so sessions end first:
            # with the old password and the limit gone, nobody comes back meanwhile.
            run.ignoring(
                _UNDEFINED,
                f"ALTER USER {user} WITH PASSWORD %s CONNECTION LIMIT 0",
                generate_password().reveal(),
            )
            failpoint("drop.login_locked")
            _end_sessions(run, server, spec)
            failpoint("drop.sessions")
            run(f"DROP SCHEMA IF EXISTS {quote_sql_name(spec.object_name)} CASCADE")
            failpoint("drop.schema")
            if not run.ignoring(_DEPENDS, f"DROP USER IF EXISTS {user}"):
                _detach_login(run, server, spec)
                run(f"DROP USER IF EXISTS {user}")
            failpoint("drop.login")
            _require_gone(run, server, spec)
            _release(run, server)
        failpoint("drop.checked")


# Steps ----------------------------------------------------------------------------------


def _door_closes(expires_at: int | None) -> str:
    """Return the VALID UNTIL of a credential that ends at ``expires_at`` milliseconds."""
    if expires_at is None:
        return "infinity"
    moment = time.gmtime(expires_at // 1000 + DOOR_MARGIN)
    return time.strftime("%Y-%m-%d %H:%M:%S+00", moment)


def _fence(run: Statements, server: Server, spec: Spec, lease: Lease) -> None:
    """Take the credential's advisory lock, ending the session of a stale holder.

    Redshift has no such locks: there only the lease is checked, so a holder that wakes up
    between the check and its next statement is not fenced off.
    """
    if server.dialect.has_advisory_locks:
        key = _lock_key(spec)
        end = time.monotonic() + SESSIONS_PATIENCE
        while run("SELECT pg_try_advisory_lock(%s)", key) != [(True,)]:
            lease.check()
            if time.monotonic() > end:
                raise EngineBusy(f"server {spec.server}: {spec.object_name} is locked")
            run(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND granted AND pid <> pg_backend_pid() "
                "AND (classid::bigint << 32) | objid::bigint = %s",
                key,
            )
            time.sleep(0.01)
    lease.check()


def _lock_key(spec: Spec) -> int:
    # Ids are below 10^18, well inside the 63 bits of a lock's key.
    return spec.credentials_id


def _release(run: Statements, server: Server) -> None:
    if server.dialect.has_advisory_locks:
        run("SELECT pg_advisory_unlock_all()")


def _verify_login(server: Server, spec: Spec, password: Secret) -> None:
    try:
        connection = server.connect_as(spec.user_name, password)
        session = connection.info.backend_pid
        connection.close()
    except psycopg2.Error as problem:
        error = translate(problem, spec.server)
        # A limit that is reached proves that the password was taken.
        if len(error.args) > 1 and error.args[1] in _FULL_LOGIN:
            return
        raise error from None
    _await_end(server, session)


def _await_end(server: Server, session: int) -> None:
    """Wait until our own session is off the list, so that nobody takes it for the owner's."""
    query = (
        f"SELECT 1 FROM ({server.dialect.sessions}) AS sessions (process, name, db) "
        "WHERE process = %s"
    )
    end = time.monotonic() + OWN_SESSION_PATIENCE
    with server.statements() as run:
        while run(query, session) and time.monotonic() < end:
            time.sleep(0.001)


def _end_sessions(run: Statements, server: Server, spec: Spec) -> int:
    """End the login's sessions and return how many, once they are gone from the list."""
    query = (
        f"SELECT process FROM ({server.dialect.sessions}) AS sessions (process, name, db) "
        "WHERE name = %s"
    )
    ended: set[int] = set()
    end, pause = time.monotonic() + SESSIONS_PATIENCE, 0.002
    while sessions := [int(row[0]) for row in run(query, spec.user_name)]:
        if time.monotonic() > end:
            raise EngineBusy(f"server {spec.server}: sessions do not end")
        for session in sessions:
            run("SELECT pg_terminate_backend(%s)", session)
        ended.update(sessions)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return len(ended)


#: What may keep a login from being dropped: a query that names each thing (of the login ``%s``,
#: or with its name in an access list) and the statement that frees it.
_OWNED = (
    (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_user u ON u.usesysid = c.relowner WHERE u.usename = %s AND c.relkind = 'v'",
        "DROP VIEW IF EXISTS {name} CASCADE",
    ),
    (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_user u ON u.usesysid = c.relowner WHERE u.usename = %s AND c.relkind = 'r'",
        "DROP TABLE IF EXISTS {name} CASCADE",
    ),
    (
        "SELECT n.nspname FROM pg_namespace n JOIN pg_user u ON u.usesysid = n.nspowner "
        "WHERE u.usename = %s",
        "DROP SCHEMA IF EXISTS {name} CASCADE",
    ),
)
#: Access lists are searched as text: ``aclexplode`` is not in Redshift's documentation.
_GRANTED = (
    (
        "SELECT nspname FROM pg_namespace WHERE array_to_string(nspacl, ',') LIKE %s",
        "REVOKE ALL ON SCHEMA {name} FROM {user}",
    ),
    (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE array_to_string(c.relacl, ',') LIKE %s AND c.relkind IN ('r', 'v')",
        "REVOKE ALL ON {name} FROM {user}",
    ),
    (
        # Schemas in which something made later would be granted to the login.
        "SELECT u.usename, n.nspname FROM pg_default_acl d JOIN pg_user u ON u.usesysid = "
        "d.{default_acl_owner} JOIN pg_namespace n ON n.oid = d.defaclnamespace "
        "WHERE array_to_string(d.defaclacl, ',') LIKE %s",
        "ALTER DEFAULT PRIVILEGES FOR USER {0} IN SCHEMA {1} REVOKE ALL ON TABLES FROM {user}",
    ),
    (
        "SELECT datname FROM pg_database WHERE array_to_string(datacl, ',') LIKE %s",
        "REVOKE ALL ON DATABASE {name} FROM {user}",
    ),
)


def _detach_login(run: Statements, server: Server, spec: Spec) -> None:
    """Remove what the login owns or was granted outside its schema, in this database."""
    # The login's name is followed by `=` in an access list, behind a comma or the list's start.
    pattern = "%" + spec.user_name.replace("_", "\\_") + "=%"
    for searches, searched in ((_OWNED, spec.user_name), (_GRANTED, pattern)):
        for query, statement in searches:
            query = query.format(default_acl_owner=server.dialect.default_acl_owner)
            for row in run(query, searched):
                names = [quote_sql_name(name) for name in row]
                user = quote_sql_name(spec.user_name)
                run(statement.format(*names, user=user, name=".".join(names)))


def _require_gone(run: Statements, server: Server, spec: Spec) -> None:
    ((users, schemas),) = run(
        "SELECT (SELECT COUNT(*) FROM pg_user WHERE usename = %s), "
        "(SELECT COUNT(*) FROM pg_namespace WHERE nspname = %s)",
        spec.user_name,
        spec.object_name,
    )
    if users or schemas:
        raise EngineBusy(f"server {spec.server}: {spec.object_name} is still there")


def _check(server: Server) -> Health:
    config = server.config
    try:
        with server.statements() as run:
            ((may_create_schemas,),) = run(
                "SELECT has_database_privilege(current_database(), 'CREATE')"
            )
            may_create_users = _may_create_users(run, server)
    except EngineError as problem:
        return Health(config.name, False, str(problem.args[0]))
    user = quote_sql_name(config.user)
    if not may_create_schemas:
        database = quote_sql_name(config.database)
        grant = f"GRANT CREATE ON DATABASE {database} TO {user}"
        return Health(config.name, False, f"the admin login cannot create schemas: {grant}")
    if not may_create_users:
        right = "CREATEROLE" if server.dialect.needs_membership else "CREATEUSER"
        grant = f"ALTER USER {user} {right}"
        return Health(config.name, False, f"the admin login cannot create users: {grant}")
    return Health(config.name, True, server.dialect.name)


def _may_create_users(run: Statements, server: Server) -> bool:
    # A superuser may on both; only PostgreSQL has a right of its own for it.
    query = "SELECT usesuper FROM pg_user WHERE usename = current_user"
    if server.dialect.needs_membership:
        query = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    return run(query) == [(True,)]
