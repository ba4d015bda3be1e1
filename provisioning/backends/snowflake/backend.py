"""What is done on a Snowflake account for a workspace: a role, a user and a schema.

The role has the user's name. The schema belongs to the admin's role and has managed access, so
what is in it is the workspace's to use, but only the admin can let others in.
"""

import time
from typing import Any

from snowflake.connector.errors import Error

from provisioning.backends.base import (
    EngineBusy,
    EngineRefused,
    Health,
    NameInUse,
    Owner,
    Placement,
    Spec,
)
from provisioning.backends.fleet import Fleet
from provisioning.backends.snowflake.check import check_server
from provisioning.backends.snowflake.server import (
    EXISTS,
    INVALID_VALUE,
    MISSING,
    NO_RIGHT,
    NO_WAREHOUSE,
    Server,
    Statements,
    translate,
)
from provisioning.claims import Lease
from provisioning.config import Limits
from provisioning.failpoints import failpoint
from provisioning.naming import USER_NAME_LIMIT, build_name, quote_sql_name
from provisioning.servers import SnowflakeServer
from provisioning.vault import Secret

#: The row keeps ``DATABASE.SCHEMA`` in 128 characters.
PART_LIMIT = 60
#: The longest statement limit the server takes, a week, which is also what it has without one.
LONGEST_STATEMENT = 604_800
#: Latest statements of a user that are searched for its sessions.
STATEMENTS_SEARCHED = 1000
_DAY_MS = 86_400_000


class SnowflakeBackend:
    """Workspaces on Snowflake (contract 10)."""

    name = "snowflake"

    def __init__(
        self,
        servers: tuple[SnowflakeServer, ...],
        limits: dict[str, Limits],
        timeout: int,
        connections: int,
    ) -> None:
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
        # The server folds unquoted names to upper case, so upper case is what callers see.
        template = self._servers[server].config.database
        database = template.replace("{project}", owner.project_id)
        number = str(credentials_id)
        schema = build_name(prefix, "workspace", number, limit=PART_LIMIT)
        return Spec(
            credentials_id,
            type_,
            server,
            build_name(prefix, "sapi_workspace", number, limit=USER_NAME_LIMIT).upper(),
            f"{build_name('', database, limit=PART_LIMIT)}.{schema}".upper(),
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
        }

    # Create -------------------------------------------------------------------------

    def create(self, spec: Spec, password: Secret, lease: Lease) -> None:
        server = self._servers[spec.server]
        role = user = quote_sql_name(spec.user_name)
        schema = _schema(spec)
        first = lease.token == 1
        lease.check()
        with server.statements() as run:
            _make_database(run, spec, lease)
            failpoint("create.locked")
            if not run.change_ignoring(lease, {EXISTS}, f"CREATE ROLE {role}") and first:
                raise NameInUse(f"server {spec.server}: role {spec.user_name} exists")
            failpoint("create.role")
            options = self._user_options(server, spec, password)
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
        _verify_login(server, spec, password)
        failpoint("create.verified")

    def _user_options(self, server: Server, spec: Spec, password: Secret) -> str:
        """Return the properties of the user. Its values are ours: names, numbers, letters."""
        config = server.config
        seconds = self._limits[spec.type].statement_seconds or LONGEST_STATEMENT
        # Names inside a namespace are quoted, as it is read like a name in a statement.
        values: dict[str, str] = {
            "PASSWORD": _literal(password.reveal()),
            "TYPE": config.user_type,
            "MUST_CHANGE_PASSWORD": "FALSE",
            "DISABLED": "FALSE",
            "DEFAULT_ROLE": quote_sql_name(spec.user_name),
            "DEFAULT_WAREHOUSE": quote_sql_name(config.warehouse.upper()),
            "DEFAULT_NAMESPACE": _literal(spec.object_name),
            "STATEMENT_TIMEOUT_IN_SECONDS": str(min(seconds, LONGEST_STATEMENT)),
        }
        if spec.expires_at is not None:
            values["DAYS_TO_EXPIRY"] = str(_days_left(spec.expires_at))
        return " ".join(f"{name} = {value}" for name, value in values.items())

    def prolong(self, spec: Spec) -> None:
        change = "UNSET DAYS_TO_EXPIRY"
        if spec.expires_at is not None:
            change = f"SET DAYS_TO_EXPIRY = {_days_left(spec.expires_at)}"
        with self._servers[spec.server].statements() as run:
            run(f"ALTER USER {quote_sql_name(spec.user_name)} {change}")

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        with self._servers[spec.server].statements() as run:
            user = _shown_user(run, spec)
            enabled = user is not None and str(user["disabled"]).lower() == "false"
            return enabled and _has_role(run, spec) and _has_schema(run, spec)

    def in_use(self, spec: Spec) -> bool:
        with self._servers[spec.server].statements() as run:
            return bool(_running(run, spec)) or bool(_open_sessions(run, spec))

    def check(self) -> list[Health]:
        return [check_server(server) for server in self._servers]

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        lease.check()
        with self._servers[spec.server].statements() as run:
            return _end_sessions(run, spec, lease)

    def drop(self, spec: Spec, lease: Lease) -> None:
        role = user = quote_sql_name(spec.user_name)
        lease.check()
        with self._servers[spec.server].statements() as run:
            run.change(lease, f"ALTER USER IF EXISTS {user} SET DISABLED = TRUE")
            failpoint("drop.login_locked")
            _end_sessions(run, spec, lease)
            failpoint("drop.sessions")
            # Without its database there is no schema either.
            run.change_ignoring(lease, MISSING, f"DROP SCHEMA IF EXISTS {_schema(spec)} CASCADE")
            failpoint("drop.schema")
            run.change(lease, f"DROP USER IF EXISTS {user}")
            failpoint("drop.login")
            run.change(lease, f"DROP ROLE IF EXISTS {role}")
            if _shown_user(run, spec) or _has_role(run, spec) or _has_schema(run, spec):
                raise EngineBusy(f"server {spec.server}: {spec.object_name} is still there")
        failpoint("drop.checked")


# Names and values -----------------------------------------------------------------------


def _schema(spec: Spec) -> str:
    return ".".join(quote_sql_name(part) for part in spec.object_name.split("."))


def _database(spec: Spec) -> str:
    return spec.object_name.split(".")[0]


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _days_left(expires_at: int) -> int:
    """Return the whole days after which the server itself shuts the user out.

    Insurance against a missed sweep: a day is added, so that it never comes too early.
    """
    left = expires_at - time.time() * 1000
    return max(int(left // _DAY_MS), 0) + 2


# Steps ----------------------------------------------------------------------------------


def _make_database(run: Statements, spec: Spec, lease: Lease) -> None:
    """Make the project's database if it is missing; it stays when the workspace goes."""
    database = _database(spec)
    if _shown(run, f"SHOW TERSE DATABASES LIKE {_literal(database)}", database):
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
    schema = _schema(spec)
    return [
        f"GRANT ROLE {role} TO USER {user}",
        f"GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}",
        f"GRANT USAGE ON DATABASE {quote_sql_name(_database(spec))} TO ROLE {role}",
        f"GRANT ALL PRIVILEGES ON SCHEMA {schema} TO ROLE {role}",
        # What others load into the schema is the workspace's too.
        f"GRANT ALL PRIVILEGES ON FUTURE TABLES IN SCHEMA {schema} TO ROLE {role}",
        f"GRANT ALL PRIVILEGES ON FUTURE VIEWS IN SCHEMA {schema} TO ROLE {role}",
    ]


def _verify_login(server: Server, spec: Spec, password: Secret) -> None:
    try:
        connection = server.connect_with_password(spec.user_name, password)
        schema = connection.schema
        connection.close()
    except Error as problem:
        raise translate(problem, spec.server) from None
    if schema != spec.object_name.split(".")[1]:
        raise EngineRefused(f"server {spec.server}: {spec.user_name} does not reach its schema")


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
    found = run.ignoring(
        _UNSEEN,
        f"SELECT session_id FROM TABLE({quote_sql_name(_database(spec))}.INFORMATION_SCHEMA."
        f"QUERY_HISTORY_BY_USER(USER_NAME => {_literal(spec.user_name)}, "
        f"RESULT_LIMIT => {STATEMENTS_SEARCHED})){condition}",
    )
    return {int(row["session_id"]) for row in found or ()}


def _open_sessions(run: Statements, spec: Spec) -> set[int]:
    """Return the sessions that ACCOUNT_USAGE has as open; none when we may not read it."""
    found = run.ignoring(
        _UNSEEN,
        "SELECT session_id FROM SNOWFLAKE.ACCOUNT_USAGE.SESSIONS "
        f"WHERE user_name = {_literal(spec.user_name)} AND closed_reason IS NULL",
    )
    return {int(row["session_id"]) for row in found or ()}


# Catalog --------------------------------------------------------------------------------


def _shown(run: Statements, sql: str, name: str) -> dict[str, Any] | None:
    """Return the row of a name from a SHOW, whose pattern takes underscores for anything."""
    rows = run.ignoring(MISSING, sql) or []
    return next((row for row in rows if row["name"] == name), None)


def _shown_user(run: Statements, spec: Spec) -> dict[str, Any] | None:
    return _shown(run, f"SHOW USERS LIKE {_literal(spec.user_name)}", spec.user_name)


def _has_role(run: Statements, spec: Spec) -> bool:
    return bool(_shown(run, f"SHOW ROLES LIKE {_literal(spec.user_name)}", spec.user_name))


def _has_schema(run: Statements, spec: Spec) -> bool:
    database, schema = spec.object_name.split(".")
    inside = f"IN DATABASE {quote_sql_name(database)}"
    return bool(_shown(run, f"SHOW TERSE SCHEMAS LIKE {_literal(schema)} {inside}", schema))
