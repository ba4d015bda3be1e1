"""Tables that are computed: INFORMATION_SCHEMA, ACCOUNT_USAGE, and functions in FROM."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from snowflake_simulator import errors
from snowflake_simulator.execution import Execution
from snowflake_simulator.queries import Query
from snowflake_simulator.results import Column
from snowflake_simulator.rights import Securable
from snowflake_simulator.statements.functions import Argument
from snowflake_simulator.statements.listing import Filter
from snowflake_simulator.statements.show import shows_schema, visible_tables

_TEXT, _WHOLE, _MOMENT, _TRUTH = "VARCHAR", "BIGINT", "TIMESTAMPTZ", "BOOLEAN"
_DEFAULT_LIMIT, _HIGHEST_LIMIT = 100, 10_000


@dataclass(frozen=True)
class Relation:
    """Computed rows; ``columns`` maps names to DuckDB types."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


def _relation(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Relation:
    return Relation(columns, [[row.get(name) for name in columns] for row in rows])


# INFORMATION_SCHEMA ------------------------------------------------------------------


def _schemata(execution: Execution, database: str) -> Relation:
    columns = dict.fromkeys(("CATALOG_NAME", "SCHEMA_NAME", "SCHEMA_OWNER"), _TEXT)
    columns |= {"IS_MANAGED_ACCESS": _TEXT, "CREATED": _MOMENT, "COMMENT": _TEXT}
    schemas = execution.account.catalog.databases[database].schemas.values()
    return _relation(
        columns,
        (
            {
                "CATALOG_NAME": database,
                "SCHEMA_NAME": schema.name[1],
                "SCHEMA_OWNER": execution.account.rights.owner(schema.securable),
                "IS_MANAGED_ACCESS": "YES" if schema.managed else "NO",
                "CREATED": schema.created_on,
                "COMMENT": schema.comment,
            }
            for schema in schemas
            if shows_schema(execution, schema)
        ),
    )


def _tables(execution: Execution, database: str) -> Relation:
    columns = dict.fromkeys(("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_OWNER"), _TEXT)
    columns |= {"TABLE_TYPE": _TEXT, "CREATED": _MOMENT, "COMMENT": _TEXT}
    everything = Filter(container=(database,))
    types = {"TABLE": "BASE TABLE", "VIEW": "VIEW"}
    return _relation(
        columns,
        (
            {
                "TABLE_CATALOG": table.name[0],
                "TABLE_SCHEMA": table.name[1],
                "TABLE_NAME": table.name[2],
                "TABLE_OWNER": execution.account.rights.owner(table.securable),
                "TABLE_TYPE": types[kind] if table.session_id is None else "LOCAL TEMPORARY",
                "CREATED": table.created_on,
                "COMMENT": table.comment,
            }
            for kind in types
            for table in visible_tables(execution, everything, kind)
        ),
    )


def _databases(execution: Execution, _: str) -> Relation:
    columns = {"DATABASE_NAME": _TEXT, "DATABASE_OWNER": _TEXT, "CREATED": _MOMENT}
    return _relation(
        columns,
        (
            {
                "DATABASE_NAME": database.name,
                "DATABASE_OWNER": execution.account.rights.owner(database.securable),
                "CREATED": database.created_on,
            }
            for database in execution.account.catalog.databases.values()
            if execution.knows(database.securable) or execution.manages_grants
        ),
    )


def _enabled_roles(execution: Execution, _: str) -> Relation:
    return Relation({"ROLE_NAME": _TEXT}, [[role] for role in sorted(execution.roles)])


VIEWS: Mapping[str, Callable[[Execution, str], Relation]] = {
    "DATABASES": _databases,
    "ENABLED_ROLES": _enabled_roles,
    "SCHEMATA": _schemata,
    "TABLES": _tables,
}

# Statements --------------------------------------------------------------------------

_HISTORY = {
    "QUERY_ID": _TEXT,
    "QUERY_TEXT": _TEXT,
    "DATABASE_NAME": _TEXT,
    "SCHEMA_NAME": _TEXT,
    "QUERY_TYPE": _TEXT,
    "SESSION_ID": _WHOLE,
    "USER_NAME": _TEXT,
    "ROLE_NAME": _TEXT,
    "WAREHOUSE_NAME": _TEXT,
    "EXECUTION_STATUS": _TEXT,
    "ERROR_CODE": _TEXT,
    "ERROR_MESSAGE": _TEXT,
    "START_TIME": _MOMENT,
    "END_TIME": _MOMENT,
    "TOTAL_ELAPSED_TIME": _WHOLE,
    "ROWS_PRODUCED": _WHOLE,
}


def _history_row(execution: Execution, query: Query) -> dict[str, Any]:
    end = query.ended or execution.now
    return {
        "QUERY_ID": query.id,
        "QUERY_TEXT": query.text,
        "DATABASE_NAME": query.database,
        "SCHEMA_NAME": query.schema,
        "QUERY_TYPE": query.type,
        "SESSION_ID": query.session.id,
        "USER_NAME": query.user,
        "ROLE_NAME": query.role,
        "WAREHOUSE_NAME": query.warehouse,
        "EXECUTION_STATUS": query.status,
        "ERROR_CODE": None if query.error is None else query.error.code,
        "ERROR_MESSAGE": None if query.error is None else query.error.message,
        "START_TIME": query.started,
        "END_TIME": query.ended,
        "TOTAL_ELAPSED_TIME": int((end - query.started).total_seconds() * 1000),
        "ROWS_PRODUCED": query.rows,
    }


def _sees_query(execution: Execution, query: Query) -> bool:
    """Others' statements show to roles that may monitor or operate their warehouse."""
    if query.session.user is execution.session.user:
        return True
    if query.warehouse is None:
        return execution.is_admin
    warehouse = Securable("WAREHOUSE", (query.warehouse,))
    return execution.allows("MONITOR", warehouse) or execution.allows("OPERATE", warehouse)


def _history(execution: Execution, wanted: Mapping[str, Argument]) -> Relation:
    limit = int(str(wanted.get("RESULT_LIMIT") or _DEFAULT_LIMIT))
    if not 1 <= limit <= _HIGHEST_LIMIT:
        raise errors.invalid_value(limit, "RESULT_LIMIT")
    found = (
        _history_row(execution, query)
        for query in execution.account.queries.history()
        if _fits(query, wanted) and _sees_query(execution, query)
    )
    return _relation(_HISTORY, islice(found, limit))


def _fits(query: Query, wanted: Mapping[str, Argument]) -> bool:
    asked = {
        "USER_NAME": query.user,
        "SESSION_ID": query.session.id,
        "WAREHOUSE_NAME": query.warehouse,
    }
    return all(str(asked[key]) == str(wanted[key]) for key in asked if key in wanted)


def _history_by_user(execution: Execution, wanted: Mapping[str, Argument]) -> Relation:
    return _history(execution, {"USER_NAME": execution.session.user.name, **wanted})


def _history_by_session(execution: Execution, wanted: Mapping[str, Argument]) -> Relation:
    return _history(execution, {"SESSION_ID": execution.session.id, **wanted})


FUNCTIONS: Mapping[str, Callable[[Execution, Mapping[str, Argument]], Relation]] = {
    "QUERY_HISTORY": _history,
    "QUERY_HISTORY_BY_SESSION": _history_by_session,
    "QUERY_HISTORY_BY_USER": _history_by_user,
    "QUERY_HISTORY_BY_WAREHOUSE": _history,
}

# ACCOUNT_USAGE -----------------------------------------------------------------------


def _sessions(execution: Execution) -> Relation:
    columns = {"SESSION_ID": _WHOLE, "CREATED_ON": _MOMENT, "USER_NAME": _TEXT}
    columns |= {"AUTHENTICATION_METHOD": _TEXT, "CLIENT_APPLICATION_ID": _TEXT}
    columns |= {"CLOSED_REASON": _TEXT}
    horizon = _horizon(execution)
    rows = (
        {
            "SESSION_ID": session.id,
            "CREATED_ON": session.created_on,
            "USER_NAME": session.user.name,
            "AUTHENTICATION_METHOD": session.method,
            "CLIENT_APPLICATION_ID": session.client,
            "CLOSED_REASON": None
            if session.ended_on is None or session.ended_on > horizon
            else "CLOSED",
        }
        for session in execution.account.sessions.known()
        if session.created_on <= horizon
    )
    return _relation(columns, rows)


def _usage_history(execution: Execution) -> Relation:
    horizon = _horizon(execution)
    rows = (
        _history_row(execution, query)
        for query in execution.account.queries.history()
        if query.ended is not None and query.ended <= horizon
    )
    return _relation(_HISTORY, rows)


def _users(execution: Execution) -> Relation:
    columns = {"NAME": _TEXT, "LOGIN_NAME": _TEXT, "CREATED_ON": _MOMENT, "DELETED_ON": _MOMENT}
    columns |= {"DISABLED": _TRUTH, "TYPE": _TEXT, "DEFAULT_ROLE": _TEXT}
    horizon = _horizon(execution)
    rows = (
        {
            "NAME": user.name,
            "LOGIN_NAME": user.login_name,
            "CREATED_ON": user.created_on,
            "DISABLED": user.disabled,
            "TYPE": user.text("TYPE"),
            "DEFAULT_ROLE": user.text("DEFAULT_ROLE"),
        }
        for user in execution.account.users.values()
        if user.created_on <= horizon
    )
    return _relation(columns, rows)


def _horizon(execution: Execution) -> Any:
    return execution.now - timedelta(seconds=execution.account.usage_latency)


USAGE: Mapping[str, Callable[[Execution], Relation]] = {
    "QUERY_HISTORY": _usage_history,
    "SESSIONS": _sessions,
    "USERS": _users,
}

# Results -----------------------------------------------------------------------------

_DUCK_TYPES = {
    "boolean": _TRUTH,
    "real": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp_ltz": _MOMENT,
    "timestamp_ntz": "TIMESTAMP",
}


def result_scan(execution: Execution, query_id: str) -> Relation:
    """Return the rows of an earlier statement of the session."""
    result = execution.session.results.get(query_id)
    if result is None:
        raise errors.SnowflakeError("000709", "02000", f"Statement {query_id} not found")
    return Relation({column.name: _duck_type(column) for column in result.columns}, result.rows)


def _duck_type(column: Column) -> str:
    if column.type == "fixed":
        return f"DECIMAL({column.precision},{column.scale})"
    return _DUCK_TYPES.get(column.type, _TEXT)
