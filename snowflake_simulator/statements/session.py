"""USE, ALTER SESSION, SHOW PARAMETERS and transactions."""

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import Schema
from snowflake_simulator.execution import Execution
from snowflake_simulator.names import ObjectName
from snowflake_simulator.reader import Reader, Value
from snowflake_simulator.results import Column, Result, listed, status
from snowflake_simulator.rights import Securable
from snowflake_simulator.users import PARAMETERS, check_parameter

_DONE = "Statement executed successfully."


def use(execution: Execution, reader: Reader) -> Result:
    session = execution.session
    if reader.accept("SECONDARY ROLES"):
        chosen = reader.expect("ALL", "NONE")
        reader.end()
        if session.restricted:
            raise errors.role_not_assigned(chosen)
        session.secondary_roles = chosen == "ALL"
        return status(_DONE)
    kind = reader.accept("ROLE", "WAREHOUSE", "DATABASE", "SCHEMA")
    name = reader.object_name()
    reader.end()
    if kind is None:
        kind = "DATABASE" if len(name) == 1 else "SCHEMA"
    match kind:
        case "ROLE":
            _use_role(execution, name[0])
        case "WAREHOUSE":
            _use_warehouse(execution, name[0])
        case "DATABASE":
            _use_database(execution, name[0])
        case _:
            _use_schema(execution, name)
    return status(_DONE)


def _use_role(execution: Execution, name: str) -> None:
    session = execution.session
    if name not in execution.account.rights.roles:
        raise errors.missing("role", names.show((name,)))
    held_back = session.restricted and name != session.role
    if held_back or not execution.account.may_assume(session.user, name):
        raise errors.role_not_assigned(name)
    session.role = name


def _use_warehouse(execution: Execution, name: str) -> None:
    warehouse = execution.account.catalog.warehouses.get(name)
    if warehouse is None or not execution.allows("USAGE", warehouse.securable):
        raise errors.impossible()
    execution.session.warehouse = name


def _use_database(execution: Execution, name: str) -> None:
    database = execution.account.catalog.databases.get(name)
    if database is None or not execution.allows("USAGE", database.securable):
        raise errors.impossible()
    execution.session.database = name
    public = database.schemas.get("PUBLIC")
    execution.session.schema = "PUBLIC" if public is not None else None


def _use_schema(execution: Execution, name: ObjectName) -> None:
    complete = execution.schema_name(name)
    schema = execution.account.catalog.schema(complete)
    if schema is None or not may_use(execution, schema):
        raise errors.impossible()
    execution.session.database, execution.session.schema = complete


def may_use(execution: Execution, schema: Schema) -> bool:
    database = Securable("DATABASE", schema.name[:1])
    return execution.allows("USAGE", database) and execution.allows("USAGE", schema.securable)


def alter(execution: Execution, reader: Reader) -> Result:
    session = execution.session
    if reader.accept("UNSET"):
        key = reader.word()
        reader.end()
        session.parameters.pop(key, None)
        return status(_DONE)
    reader.expect("SET")
    changes = reader.properties()
    reader.end()
    for key, value in changes.items():
        check_parameter(key, value)
    session.parameters.update(changes)
    return status(_DONE, **{key: value for key, value in changes.items() if key in PARAMETERS})


def show_parameters(execution: Execution, reader: Reader) -> Result:
    pattern = reader.string() if reader.accept("LIKE") else "%"
    levels: list[tuple[str, dict[str, Value]]] = [("SESSION", execution.session.parameters)]
    if reader.accept("IN USER", "FOR USER"):
        levels = [("USER", execution.user(reader.plain_name()).parameters)]
    else:
        reader.accept("IN SESSION", "FOR SESSION")
    pattern = reader.string() if reader.accept("LIKE") else pattern
    reader.end()
    columns = [Column(name) for name in ("key", "value", "default", "level", "description")]
    rows = []
    for key, default in PARAMETERS.items():
        if names.like(pattern).fullmatch(key) is None:
            continue
        level = next((level for level, values in levels if key in values), "")
        value = next((values[key] for _, values in levels if key in values), default)
        rows.append(
            {"key": key, "value": _shown(value), "default": _shown(default), "level": level}
        )
    return listed(columns, rows)


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def begin(execution: Execution, reader: Reader) -> Result:
    reader.accept("TRANSACTION", "WORK")
    reader.end()
    execution.connection.begin()
    return status(_DONE)


def commit(execution: Execution, reader: Reader) -> Result:
    reader.accept("WORK")
    reader.end()
    execution.connection.commit()
    return status(_DONE)


def rollback(execution: Execution, reader: Reader) -> Result:
    reader.accept("WORK")
    reader.end()
    execution.connection.rollback()
    return status(_DONE)
