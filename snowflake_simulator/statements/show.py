"""SHOW of users, roles, warehouses, databases, schemas, tables and views; DESCRIBE TABLE."""

from typing import Any

from snowflake_simulator.catalog import INFORMATION_SCHEMA, Schema, Table
from snowflake_simulator.engine import physical
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Column, Result, listed, moment, number
from snowflake_simulator.rights import Securable
from snowflake_simulator.statements.listing import Filter, current_container, flag, read_filter
from snowflake_simulator.users import User

_CREATED = moment("created_on")
_RETENTION_DAYS = "1"


def _columns(*names: str) -> list[Column]:
    return [Column(name) for name in names]


USER_COLUMNS = [
    Column("name"),
    _CREATED,
    *_columns("login_name", "display_name", "first_name", "last_name", "email"),
    *_columns("mins_to_unlock", "days_to_expiry", "comment", "disabled", "must_change_password"),
    *_columns("snowflake_lock", "default_warehouse", "default_namespace", "default_role"),
    *_columns("default_secondary_roles", "ext_authn_duo", "ext_authn_uid", "mins_to_bypass_mfa"),
    Column("owner"),
    *(moment(name) for name in ("last_success_login", "expires_at_time", "locked_until_time")),
    *_columns("has_password", "has_rsa_public_key", "type", "has_mfa", "has_pat"),
]
ROLE_COLUMNS = [
    _CREATED,
    *_columns("name", "is_default", "is_current", "is_inherited"),
    *(number(name) for name in ("assigned_to_users", "granted_to_roles", "granted_roles")),
    *_columns("owner", "comment"),
]
WAREHOUSE_COLUMNS = [
    *_columns("name", "state", "type", "size"),
    *(number(name) for name in ("min_cluster_count", "max_cluster_count", "started_clusters")),
    *(number(name) for name in ("running", "queued")),
    *_columns("is_default", "is_current"),
    number("auto_suspend"),
    *_columns("auto_resume", "available", "provisioning", "quiescing", "other"),
    *(moment(name) for name in ("created_on", "resumed_on", "updated_on")),
    *_columns("owner", "comment", "owner_role_type"),
]
DATABASE_COLUMNS = [
    _CREATED,
    *_columns("name", "is_default", "is_current", "origin", "owner", "comment", "options"),
    *_columns("retention_time", "kind", "owner_role_type"),
]
SCHEMA_COLUMNS = [
    _CREATED,
    *_columns("name", "is_default", "is_current", "database_name", "owner", "comment"),
    *_columns("options", "retention_time", "owner_role_type"),
]
TABLE_COLUMNS = [
    _CREATED,
    *_columns("name", "database_name", "schema_name", "kind", "comment", "cluster_by"),
    *(number(name) for name in ("rows", "bytes")),
    *_columns("owner", "retention_time", "owner_role_type"),
]
VIEW_COLUMNS = [
    _CREATED,
    *_columns("name", "reserved", "database_name", "schema_name", "owner", "comment", "text"),
    *_columns("is_secure", "is_materialized", "owner_role_type"),
]


def users(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=None)
    rows = [
        _user_row(execution, user)
        for user in execution.account.users.values()
        if wanted.fits(user.name) and _sees_user(execution, user)
    ]
    return wanted.answer(USER_COLUMNS, rows)


def _sees_user(execution: Execution, user: User) -> bool:
    own = user is execution.session.user
    return own or execution.manages_grants or execution.knows(Securable("USER", (user.name,)))


def _user_row(execution: Execution, user: User) -> dict[str, Any]:
    properties = {
        key.lower(): "" if value is None else str(value).lower()
        for key, value in user.properties.items()
        if isinstance(value, bool | int | None)
    }
    texts = {key.lower(): value for key, value in user.properties.items() if isinstance(value, str)}
    secondary = user.properties["DEFAULT_SECONDARY_ROLES"]
    return {
        **properties,
        **texts,
        "name": user.name,
        "created_on": user.created_on,
        "login_name": user.login_name,
        "display_name": user.text("DISPLAY_NAME") or user.name,
        "snowflake_lock": "false",
        "default_secondary_roles": str(secondary or []).replace("'", '"'),
        "ext_authn_duo": "false",
        "owner": execution.account.rights.owner(Securable("USER", (user.name,))),
        "last_success_login": user.last_login,
        "expires_at_time": user.expires_at,
        "has_password": str(user.password is not None).lower(),
        "has_rsa_public_key": str(bool(user.keys)).lower(),
        "has_mfa": "false",
        "has_pat": str(bool(user.tokens)).lower(),
    }


def roles(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=None)
    account, session = execution.account, execution.session
    holders = list(account.users.values())
    inherited = account.rights.inherited([session.role])
    rows = [
        {
            "created_on": role.created_on,
            "name": role.name,
            "is_default": flag(role.name == session.user.text("DEFAULT_ROLE")),
            "is_current": flag(role.name == session.role),
            "is_inherited": flag(role.name != session.role and role.name in inherited),
            "assigned_to_users": sum(role.name in user.roles for user in holders),
            "granted_to_roles": sum(
                role.name in other.roles for other in account.rights.roles.values()
            ),
            "granted_roles": len(role.roles),
            "owner": account.rights.owner(Securable("ROLE", (role.name,))),
            "comment": role.comment,
        }
        for role in account.rights.roles.values()
        if wanted.fits(role.name)
    ]
    return wanted.answer(ROLE_COLUMNS, rows)


def warehouses(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=None)
    running = execution.account.queries.running()
    rows = [
        {
            "name": warehouse.name,
            "state": "STARTED",
            "type": "STANDARD",
            "size": str(warehouse.properties.get("WAREHOUSE_SIZE") or "X-Small"),
            "min_cluster_count": 1,
            "max_cluster_count": 1,
            "started_clusters": 1,
            "running": sum(query.warehouse == warehouse.name for query in running),
            "queued": 0,
            "is_default": flag(warehouse.name == execution.session.user.text("DEFAULT_WAREHOUSE")),
            "is_current": flag(warehouse.name == execution.current_warehouse),
            "auto_suspend": warehouse.properties.get("AUTO_SUSPEND", 600),
            "auto_resume": "true",
            "created_on": warehouse.created_on,
            "resumed_on": warehouse.created_on,
            "updated_on": warehouse.created_on,
            "owner": execution.account.rights.owner(warehouse.securable),
            "comment": str(warehouse.properties.get("COMMENT") or ""),
            "owner_role_type": "ROLE",
        }
        for warehouse in execution.account.catalog.warehouses.values()
        if wanted.fits(warehouse.name) and _shows(execution, warehouse.securable)
    ]
    return wanted.answer(WAREHOUSE_COLUMNS, rows)


def databases(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=None)
    rows = [
        {
            "created_on": database.created_on,
            "name": database.name,
            "is_default": "N",
            "is_current": flag(database.name == execution.current_database),
            "owner": execution.account.rights.owner(database.securable),
            "comment": database.comment,
            "retention_time": _RETENTION_DAYS,
            "kind": "STANDARD",
            "owner_role_type": "ROLE",
        }
        for database in execution.account.catalog.databases.values()
        if wanted.fits(database.name) and _shows(execution, database.securable)
    ]
    return wanted.answer(DATABASE_COLUMNS, rows)


def schemas(execution: Execution, reader: Reader) -> Result:
    current = execution.current_database
    wanted = read_filter(execution, reader, default=None if current is None else (current,))
    rows = [
        {
            "created_on": schema.created_on,
            "name": schema.name[1],
            "is_default": "N",
            "is_current": flag(schema.name == current_container(execution)),
            "database_name": schema.name[0],
            "owner": execution.account.rights.owner(schema.securable),
            "comment": schema.comment,
            "options": "MANAGED ACCESS" if schema.managed else "",
            "retention_time": _RETENTION_DAYS,
            "owner_role_type": "ROLE",
        }
        for schema in execution.account.catalog.schemas()
        if wanted.holds(schema.name) and shows_schema(execution, schema)
    ]
    return wanted.answer(SCHEMA_COLUMNS, rows)


def tables(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=current_container(execution))
    rows = [
        {
            **_table_row(execution, table),
            "kind": "TABLE" if table.session_id is None else "TEMPORARY",
            "rows": _count(execution, table),
            "retention_time": _RETENTION_DAYS,
        }
        for table in visible_tables(execution, wanted, "TABLE")
    ]
    return wanted.answer(TABLE_COLUMNS, rows)


def views(execution: Execution, reader: Reader) -> Result:
    wanted = read_filter(execution, reader, default=current_container(execution))
    rows = [
        {
            **_table_row(execution, view),
            "text": view.text,
            "is_secure": "false",
            "is_materialized": "false",
        }
        for view in visible_tables(execution, wanted, "VIEW")
    ]
    return wanted.answer(VIEW_COLUMNS, rows)


def visible_tables(execution: Execution, wanted: Filter, kind: str) -> list[Table]:
    """Return the tables or views that a filter lets through and the session may see."""
    catalog = execution.account.catalog
    return [
        table
        for table in catalog.tables()
        if table.kind == kind and wanted.holds(table.name) and _shows(execution, table.securable)
    ]


def _table_row(execution: Execution, table: Table) -> dict[str, Any]:
    return {
        "created_on": table.created_on,
        "name": table.name[2],
        "database_name": table.name[0],
        "schema_name": table.name[1],
        "comment": table.comment,
        "owner": execution.account.rights.owner(table.securable),
        "owner_role_type": "ROLE",
    }


def _count(execution: Execution, table: Table) -> int:
    _, rows = execution.connection.run(f"SELECT count(*) FROM {physical(table.name)}")
    return int(rows[0][0])


def _shows(execution: Execution, on: Securable) -> bool:
    return execution.knows(on) or execution.manages_grants


def shows_schema(execution: Execution, schema: Schema) -> bool:
    if schema.name[1] == INFORMATION_SCHEMA:
        return _shows(execution, Securable("DATABASE", schema.name[:1]))
    return _shows(execution, schema.securable)


def describe_table(execution: Execution, reader: Reader) -> Result:
    table = execution.table(reader.object_name())
    reader.end()
    columns = _columns("name", "type", "kind", "null?", "default", "primary key", "unique key")
    columns += _columns("check", "expression", "comment", "policy name")
    _, described = execution.connection.run(f"DESCRIBE {physical(table.name)}")
    rows = [
        {
            "name": name,
            "type": snowflake_type(kind),
            "kind": "COLUMN",
            "null?": "Y" if nullable == "YES" else "N",
            "default": default,
            "primary key": "N",
            "unique key": "N",
        }
        for name, kind, nullable, _, default, *_ in described
    ]
    return listed(columns, rows)


def snowflake_type(kind: str) -> str:
    """Return the server's name of a DuckDB type."""
    base, _, size = kind.partition("(")
    match base:
        case "DECIMAL":
            return f"NUMBER({size}"
        case "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT":
            return "NUMBER(38,0)"
        case "VARCHAR":
            return "VARCHAR(16777216)"
        case "DOUBLE" | "FLOAT":
            return "FLOAT"
        case "TIMESTAMP WITH TIME ZONE":
            return "TIMESTAMP_LTZ(9)"
        case "TIMESTAMP" | "TIMESTAMP_NS":
            return "TIMESTAMP_NTZ(9)"
        case "BLOB":
            return "BINARY(8388608)"
        case "JSON":
            return "VARIANT"
    return kind
