"""What is done on a Snowflake account for a workspace: a role, a user and a schema.

The role has the user's name. The schema belongs to the admin's role and has managed access, so
the workspace can use what is in it, but only the admin can let others in.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    Health,
    IssuedPassword,
    NameInUse,
    Owner,
    ServerObject,
    Spec,
)
from provisioning.backends.key_pairs import fingerprint, generate_key_pair
from provisioning.backends.naming import USER_NAME_LIMIT, build_name, quote_sql_name
from provisioning.backends.servers.fleet import Fleet
from provisioning.backends.snowflake.check import check_server
from provisioning.backends.snowflake.inventory import take_inventory
from provisioning.backends.snowflake.logins import (
    days_left,
    issue_password,
    issue_token,
    needs_token,
    user_options,
    verify_logins,
)
from provisioning.backends.snowflake.server import (
    EXISTS,
    INVALID_VALUE,
    MISSING,
    NO_RIGHT,
    NO_WAREHOUSE,
    PART_LIMIT,
    Server,
    Statements,
    database_of,
    quote_text,
    schema_name,
)
from provisioning.backends.sql import SQLBackend, succeeds
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import SnowflakeServer
from provisioning.state.claims import Lease
from provisioning.state.failpoints import failpoint

#: Latest statements of a user that are searched for its sessions.
STATEMENTS_SEARCHED = 1000


class SnowflakeBackend(SQLBackend[Server]):
    """Workspaces on Snowflake (contract 10)."""

    name = "snowflake"
    ends_passwords = True
    parts = frozenset({"schema", "login", "role"})

    def __init__(
        self,
        servers: tuple[SnowflakeServer, ...],
        limits: dict[str, Limits],
        timeout: int,
        connections: int,
    ) -> None:
        fleet = Fleet(Server(config, timeout, connections) for config in servers)
        super().__init__(fleet, limits)

    # Pure ---------------------------------------------------------------------------

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        # The server folds unquoted names to upper case, so upper case is what callers see.
        config = self._servers[server].config
        database = config.database.replace("{project}", owner.project_id)
        number = str(credentials_id)
        schema = build_name(prefix, "workspace", number, limit=PART_LIMIT)
        private_key, public_key = None, owner.public_key
        if public_key is None and config.makes_key_pairs:
            private_key, public_key = generate_key_pair()
        return Spec(
            credentials_id,
            type_,
            server,
            build_name(prefix, "sapi_workspace", number, limit=USER_NAME_LIMIT).upper(),
            f"{build_name('', database, limit=PART_LIMIT)}.{schema}".upper(),
            public_key=public_key,
            private_key=private_key,
        )

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        config = self._servers[spec.server].config
        database, schema = spec.object_name.split(".")
        return {
            "hostname": config.public_host,
            "port": config.public_port,
            "db": database,
            "schema": schema,
            "warehouse": config.warehouse.upper(),
            "workspaceId": str(spec.credentials_id),
            "user": spec.user_name,
            "password": password.reveal(),
            **_describe_key(spec),
        }

    # Create -------------------------------------------------------------------------

    def create(self, spec: Spec, password: Secret, lease: Lease) -> IssuedPassword | None:
        server = self._servers[spec.server]
        role = user = quote_sql_name(spec.user_name)
        schema = schema_name(spec)
        first = lease.token == 1
        lease.check()
        with server.statements() as run:
            _make_database(run, spec, lease)
            failpoint("create.locked")
            if not run.change_ignoring(lease, {EXISTS}, f"CREATE ROLE {role}") and first:
                raise NameInUse(f"server {spec.server}: role {spec.user_name} exists")
            failpoint("create.role")
            seconds = self._limits[spec.type].statement_seconds
            options = user_options(server.config, spec, password, seconds)
            if not run.change_ignoring(lease, {EXISTS}, f"CREATE USER {user} {options}"):
                if first:
                    run.change(lease, f"DROP ROLE {role}")
                    raise NameInUse(f"server {spec.server}: user {spec.user_name} exists")
                run.change(lease, f"ALTER USER {user} SET {options}")
            failpoint("create.login")
            made = f"CREATE SCHEMA {schema} WITH MANAGED ACCESS"
            if not run.change_ignoring(lease, {EXISTS}, made) and first:
                run.change(lease, f"DROP USER {user}")
                run.change(lease, f"DROP ROLE {role}")
                raise NameInUse(f"server {spec.server}: schema {spec.object_name} exists")
            failpoint("create.schema")
            for grant in _grants(server.config, spec):
                run.change(lease, grant)
            failpoint("create.settings")
            issued = issue_password(run, server.config, spec, lease)
            failpoint("create.issued")
        verify_logins(server, spec, issued.password if issued else password)
        failpoint("create.verified")
        return issued

    def prolong(self, spec: Spec) -> IssuedPassword | None:
        server = self._servers[spec.server]
        change = "UNSET DAYS_TO_EXPIRY"
        if spec.expires_at is not None:
            change = f"SET DAYS_TO_EXPIRY = {days_left(spec.expires_at)}"
        with server.statements() as run:
            run(f"ALTER USER {quote_sql_name(spec.user_name)} {change}")
            if needs_token(server.config, spec):
                return issue_token(run, server.config, spec)
        return None

    # Passwords ----------------------------------------------------------------------

    def lets_in(self, spec: Spec, password: Secret) -> bool:
        server = self._servers[spec.server]
        return self.exists(spec) and succeeds(lambda: verify_logins(server, spec, password))

    def set_password(
        self, spec: Spec, password: Secret, lease: Lease, *, end_sessions: bool
    ) -> IssuedPassword | None:
        server = self._servers[spec.server]
        user = quote_sql_name(spec.user_name)
        # Its end is left out: an extend at the same moment may have moved it.
        endless = replace(spec, expires_at=None)
        seconds = self._limits[spec.type].statement_seconds
        options = user_options(server.config, endless, password, seconds)
        with server.statements() as run:
            run.change(lease, f"ALTER USER {user} SET {options}")
            failpoint("password.set")
            issued = issue_password(run, server.config, spec, lease)
        verify_logins(server, spec, issued.password if issued else password)
        if end_sessions:
            self.kill(spec, lease)
        return issued

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        with self._servers[spec.server].statements() as run:
            user = _shown_user(run, spec)
            enabled = user is not None and str(user["disabled"]).lower() == "false"
            return enabled and _has_role(run, spec) and _has_schema(run, spec)

    def in_use(self, spec: Spec) -> bool:
        with self._servers[spec.server].statements() as run:
            return bool(_running(run, spec)) or bool(_open_sessions(run, spec))

    def _check_server(self, server: Server) -> Health:
        return check_server(server)

    def explain(self, server: str, problem: EngineError) -> str:
        return str(problem.args[0])

    def _take_inventory(self, server: Server, prefix: str) -> list[ServerObject]:
        with server.statements() as run:
            return take_inventory(run, server.config, prefix)

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        lease.check()
        with self._servers[spec.server].statements() as run:
            return _end_sessions(run, spec, lease)

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        role = user = quote_sql_name(spec.user_name)
        lease.check()
        with self._servers[spec.server].statements() as run:
            run.change(lease, f"ALTER USER IF EXISTS {user} SET DISABLED = TRUE")
            failpoint("drop.login_locked")
            _end_sessions(run, spec, lease)
            access_ended()
            failpoint("drop.sessions")
            # Without its database there is no schema either.
            run.change_ignoring(
                lease, MISSING, f"DROP SCHEMA IF EXISTS {schema_name(spec)} CASCADE"
            )
            failpoint("drop.schema")
            run.change(lease, f"DROP USER IF EXISTS {user}")
            failpoint("drop.login")
            run.change(lease, f"DROP ROLE IF EXISTS {role}")
            if _shown_user(run, spec) or _has_role(run, spec) or _has_schema(run, spec):
                raise EngineBusy(f"server {spec.server}: {spec.object_name} is still there")
        failpoint("drop.checked")


def _describe_key(spec: Spec) -> dict[str, str]:
    """Return a key pair of ours to its owner, or which key of the caller's may log in."""
    if spec.private_key is not None:
        return {"privateKey": spec.private_key.reveal()}
    if spec.public_key is not None:
        return {"publicKeyFingerprint": fingerprint(spec.public_key)}
    return {}


# Steps ----------------------------------------------------------------------------------


def _make_database(run: Statements, spec: Spec, lease: Lease) -> None:
    """Make the project's database if it is missing; it stays when the workspace goes."""
    database = database_of(spec)
    if _shown(run, f"SHOW TERSE DATABASES LIKE {quote_text(database)}", database):
        return
    made = f"CREATE DATABASE IF NOT EXISTS {quote_sql_name(database)}"
    if not run.change_ignoring(lease, {NO_RIGHT}, made):
        raise EngineRefused(
            f"server {spec.server}: database {database} is missing, or the admin's role cannot "
            "see it, and may not make it"
        )


def _grants(config: SnowflakeServer, spec: Spec) -> list[str]:
    role = user = quote_sql_name(spec.user_name)
    warehouse = quote_sql_name(config.warehouse.upper())
    schema = schema_name(spec)
    return [
        f"GRANT ROLE {role} TO USER {user}",
        f"GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}",
        f"GRANT USAGE ON DATABASE {quote_sql_name(database_of(spec))} TO ROLE {role}",
        f"GRANT ALL PRIVILEGES ON SCHEMA {schema} TO ROLE {role}",
        # What others load into the schema is the workspace's too.
        f"GRANT ALL PRIVILEGES ON FUTURE TABLES IN SCHEMA {schema} TO ROLE {role}",
        f"GRANT ALL PRIVILEGES ON FUTURE VIEWS IN SCHEMA {schema} TO ROLE {role}",
    ]


def _end_sessions(run: Statements, spec: Spec, lease: Lease) -> int:
    """End what runs and every session that is known of, and return how many sessions."""
    user = quote_sql_name(spec.user_name)
    run.change(lease, f"ALTER USER IF EXISTS {user} ABORT ALL QUERIES")
    ended = 0
    for session in _recent_sessions(run, spec) | _open_sessions(run, spec):
        # A session that has ended meanwhile is refused as a value.
        ended += run.change_ignoring(
            lease, {INVALID_VALUE}, f"SELECT SYSTEM$ABORT_SESSION({session})"
        )
    return ended


# Sessions: no view of the real server shows them all at once. The history of statements is
# prompt, but knows a session by its statements only; ACCOUNT_USAGE knows all, but hours late.
# Without a warehouse neither can be read; then nothing runs in it either, and a drop goes on.
_UNSEEN = {*MISSING, *NO_WAREHOUSE, NO_RIGHT}


def _running(run: Statements, spec: Spec) -> set[int]:
    return _sessions_of_statements(run, spec, " WHERE execution_status = 'RUNNING'")


def _recent_sessions(run: Statements, spec: Spec) -> set[int]:
    return _sessions_of_statements(run, spec, "")


def _sessions_of_statements(run: Statements, spec: Spec, condition: str) -> set[int]:
    found = run.query_ignoring(
        _UNSEEN,
        f"SELECT session_id FROM TABLE({quote_sql_name(database_of(spec))}.INFORMATION_SCHEMA."
        f"QUERY_HISTORY_BY_USER(USER_NAME => {quote_text(spec.user_name)}, "
        f"RESULT_LIMIT => {STATEMENTS_SEARCHED})){condition}",
    )
    return {int(row["session_id"]) for row in found or ()}


def _open_sessions(run: Statements, spec: Spec) -> set[int]:
    """Return the sessions that ACCOUNT_USAGE has as open; none when we may not read it."""
    found = run.query_ignoring(
        _UNSEEN,
        "SELECT session_id FROM SNOWFLAKE.ACCOUNT_USAGE.SESSIONS "
        f"WHERE user_name = {quote_text(spec.user_name)} AND closed_reason IS NULL",
    )
    return {int(row["session_id"]) for row in found or ()}


# Catalog --------------------------------------------------------------------------------


def _shown(run: Statements, sql: str, name: str) -> dict[str, Any] | None:
    """Return the row of a name from a SHOW, whose pattern takes underscores for anything."""
    rows = run.query_ignoring(MISSING, sql) or []
    return next((row for row in rows if row["name"] == name), None)


def _shown_user(run: Statements, spec: Spec) -> dict[str, Any] | None:
    return _shown(run, f"SHOW USERS LIKE {quote_text(spec.user_name)}", spec.user_name)


def _has_role(run: Statements, spec: Spec) -> bool:
    return bool(_shown(run, f"SHOW ROLES LIKE {quote_text(spec.user_name)}", spec.user_name))


def _has_schema(run: Statements, spec: Spec) -> bool:
    database, schema = spec.object_name.split(".")
    inside = f"IN DATABASE {quote_sql_name(database)}"
    return bool(_shown(run, f"SHOW TERSE SCHEMAS LIKE {quote_text(schema)} {inside}", schema))
