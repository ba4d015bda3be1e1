"""What is done on a Redshift or PostgreSQL server for a workspace: a login and its schema."""

import time
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2 import errorcodes

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    Health,
    NameInUse,
    Owner,
    ServerObject,
    Spec,
)
from provisioning.backends.naming import (
    DATABASE_NAME_LIMIT,
    USER_NAME_LIMIT,
    build_name,
    quote_sql_name,
)
from provisioning.backends.redshift.blockers import Blockers
from provisioning.backends.redshift.check import check_server, explain
from provisioning.backends.redshift.inventory import take_inventory
from provisioning.backends.redshift.passwords import change_password
from provisioning.backends.redshift.removal import (
    end_access,
    end_sessions,
    remove_objects,
    require_gone,
)
from provisioning.backends.redshift.server import Server, Statements, translate
from provisioning.backends.servers.admin_password import RecordedPasswords, nothing_recorded
from provisioning.backends.servers.fleet import Fleet
from provisioning.backends.sql import PasswordSQLBackend, succeeds
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import PostgresServer
from provisioning.state.claims import Lease
from provisioning.state.failpoints import failpoint

_USER_EXISTS = {errorcodes.DUPLICATE_OBJECT}
_SCHEMA_EXISTS = {errorcodes.DUPLICATE_SCHEMA}

#: Seconds to wait for the end of the session that tried the new login.
OWN_SESSION_PATIENCE = 2.0
#: Seconds until ended sessions must be gone.
SESSIONS_PATIENCE = 8.0
#: Seconds after a credential's end when the database itself starts to refuse its password. It
#: covers a missed sweep, and is long enough never to come before one.
VALID_UNTIL_MARGIN = 3600

#: Signs the session, and returns its name and how many others of our login bear it, ended now.
_SIGN = """
SELECT set_config('application_name', %s, false), (
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = current_user AND application_name = left(%s, 63) AND pid <> pg_backend_pid()
)
"""


class RedshiftBackend(PasswordSQLBackend[Server]):
    """Workspaces on Redshift, or on PostgreSQL under the name ``postgresql`` (contract 10)."""

    ends_passwords = True
    parts = frozenset({"schema", "login"})

    def __init__(
        self,
        name: str,
        servers: tuple[PostgresServer, ...],
        limits: dict[str, Limits],
        timeout: int,
        connections: int,
        *,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        self.name = name
        fleet = Fleet(Server(config, timeout, connections, recorded) for config in servers)
        super().__init__(fleet, limits)

    # Pure ---------------------------------------------------------------------------

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
            self._create_login(run, server, spec, password, lease)
            failpoint("create.login")
            self._set_up_login(run, server, spec)
            failpoint("create.settings")
            self._create_schema(run, server, spec, lease)
            failpoint("create.schema")
            _release(run, server)
        _verify_login(server, spec, password)
        failpoint("create.verified")

    def _create_login(
        self, run: Statements, server: Server, spec: Spec, password: Secret, lease: Lease
    ) -> None:
        user, plain = quote_sql_name(spec.user_name), password.reveal()
        options = f"PASSWORD %s VALID UNTIL %s {self._connection_limit(server, spec)}"
        until = _valid_until(spec.expires_at)
        # The server logs a statement that fails, with the password in it: a second attempt looks.
        known = lease.token > 1 and run("SELECT 1 FROM pg_user WHERE usename = %s", spec.user_name)
        if not known and run.ignoring(
            _USER_EXISTS, f"CREATE USER {user} WITH {options}", plain, until
        ):
            return
        if lease.token == 1:
            raise NameInUse(f"server {spec.server}: user {spec.user_name} exists")
        run(f"ALTER USER {user} WITH {options}", plain, until)

    def _connection_limit(self, server: Server, spec: Spec) -> str:
        limit = self._limits[spec.type].connections or server.dialect.unlimited
        return f"CONNECTION LIMIT {limit}"

    def _set_up_login(self, run: Statements, server: Server, spec: Spec) -> None:
        user = quote_sql_name(spec.user_name)
        run(f"ALTER USER {user} SET search_path = {quote_sql_name(spec.object_name)}")
        seconds = self._limits[spec.type].statement_seconds
        run(f"ALTER USER {user} SET statement_timeout = {seconds * 1000}")
        if server.dialect.is_postgresql:
            run(f"GRANT {user} TO CURRENT_USER")

    def _create_schema(self, run: Statements, server: Server, spec: Spec, lease: Lease) -> None:
        schema, user = quote_sql_name(spec.object_name), quote_sql_name(spec.user_name)
        quota = ""
        if not server.dialect.is_postgresql and server.config.schema_quota_gb:
            quota = f" QUOTA {server.config.schema_quota_gb} GB"
        if run.ignoring(_SCHEMA_EXISTS, f"CREATE SCHEMA {schema} AUTHORIZATION {user}{quota}"):
            return
        if lease.token == 1:
            run(f"DROP USER {user}")
            raise NameInUse(f"server {spec.server}: schema {spec.object_name} exists")
        run(f"ALTER SCHEMA {schema} OWNER TO {user}")

    def prolong(self, spec: Spec) -> None:
        until = _valid_until(spec.expires_at)
        with self._servers[spec.server].statements() as run:
            run(f"ALTER USER {quote_sql_name(spec.user_name)} VALID UNTIL %s", until)

    # Passwords ----------------------------------------------------------------------

    def lets_in(self, spec: Spec, password: Secret) -> bool:
        server = self._servers[spec.server]
        return self.exists(spec) and succeeds(lambda: _verify_login(server, spec, password))

    def set_password(
        self, spec: Spec, password: Secret, lease: Lease, *, end_sessions: bool
    ) -> None:
        server = self._servers[spec.server]
        limit = self._connection_limit(server, spec)
        with server.statements() as run, Blockers(server, run, spec) as blockers:
            _fence(run, server, spec, lease)
            failpoint("password.locked")
            change_password(run, spec, password, limit, blockers)
            _release(run, server)
        _verify_login(server, spec, password)
        if end_sessions:
            self.kill(spec, lease)

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        server = self._servers[spec.server]
        with server.statements() as run:
            ((found,),) = run(
                "SELECT COUNT(*) FROM pg_namespace n "
                f"JOIN ({server.dialect.open_logins}) AS logins (id, name) "
                "ON logins.id = n.nspowner WHERE n.nspname = %s AND logins.name = %s",
                spec.object_name,
                spec.user_name,
            )
        return bool(found)

    def in_use(self, spec: Spec) -> bool:
        return bool(self._servers[spec.server].sessions.databases_of(spec.user_name))

    def _check_server(self, server: Server) -> Health:
        return check_server(server, self._limits)

    def explain(self, server: str, problem: EngineError) -> str:
        return explain(self._servers[server], problem)

    def _take_inventory(self, server: Server, prefix: str) -> list[ServerObject]:
        with server.statements() as run:
            return take_inventory(run, server.config.name, prefix)

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        server = self._servers[spec.server]
        with server.statements() as run:
            lease.check()
            return end_sessions(run, server, spec)

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        server = self._servers[spec.server]
        with server.statements() as run, Blockers(server, run, spec) as blockers:
            _fence(run, server, spec, lease)
            failpoint("drop.locked")
            has_login = end_access(run, server, spec, blockers)
            access_ended()
            remove_objects(run, server, spec, blockers, has_login=has_login)
            require_gone(run, spec)
            _release(run, server)
        failpoint("drop.checked")


# Steps ----------------------------------------------------------------------------------


def _valid_until(expires_at: int | None) -> str:
    """Return the VALID UNTIL of a credential that ends at ``expires_at`` milliseconds."""
    if expires_at is None:
        return "infinity"
    moment = time.gmtime(expires_at // 1000 + VALID_UNTIL_MARGIN)
    return time.strftime("%Y-%m-%d %H:%M:%S+00", moment)


def _fence(run: Statements, server: Server, spec: Spec, lease: Lease) -> None:
    """Sign the session with the credential's name, and end that of a stale holder.

    Only sessions of our own login count, so no tenant's can stand in the way. A holder that was
    replaced and signs later than this fails `lease.check`. Redshift has no such names: there the
    lease is looked at before each statement, so a holder that was replaced can finish at most
    the statement it is in.
    """
    if not server.dialect.is_postgresql:
        run.guard(lease)
    else:
        end = time.monotonic() + SESSIONS_PATIENCE
        while run(_SIGN, spec.object_name, spec.object_name) != [(spec.object_name[:63], 0)]:
            lease.check()
            if time.monotonic() > end:
                raise EngineBusy(f"server {spec.server}: an earlier session does not end")
            time.sleep(0.01)
    lease.check()


def _release(run: Statements, server: Server) -> None:
    if server.dialect.is_postgresql:
        run("SELECT set_config('application_name', '', false)")


def _verify_login(server: Server, spec: Spec, password: Secret) -> None:
    try:
        connection = server.connect_as(spec.user_name, password)
        session = connection.info.backend_pid
        connection.close()
    except psycopg2.Error as problem:
        error = translate(problem, f"{spec.server}: login")
        # A limit that is reached proves that the password was taken.
        if error.code == errorcodes.TOO_MANY_CONNECTIONS:
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
