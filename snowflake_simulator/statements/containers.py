"""CREATE, ALTER and DROP of databases and schemas."""

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import INFORMATION_SCHEMA, Schema
from snowflake_simulator.execution import Execution
from snowflake_simulator.names import ObjectName
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result, status
from snowflake_simulator.rights import ACCOUNT


def create_database(execution: Execution, reader: Reader) -> Result:
    unless_exists = reader.accept("IF NOT EXISTS") is not None
    name = reader.plain_name()
    options = reader.properties()
    reader.end()
    execution.require("CREATE DATABASE", ACCOUNT)
    account = execution.account
    if name in account.catalog.databases:
        if unless_exists:
            return status(f"{name} already exists, statement succeeded.")
        raise errors.exists(names.show((name,)))
    database = account.add_database(name, str(options.get("COMMENT") or ""))
    role = execution.session.role
    account.rights.created(database.securable, role, execution.now)
    account.rights.created(database.schemas["PUBLIC"].securable, role, execution.now)
    execution.session.database, execution.session.schema = name, "PUBLIC"
    return status(f"Database {names.show((name,))} successfully created.")


def alter_database(execution: Execution, reader: Reader) -> Result:
    database = execution.database(reader.plain_name())
    reader.expect("SET")
    changes = reader.properties()
    reader.end()
    execution.require("MODIFY", database.securable)
    database.comment = str(changes.get("COMMENT", database.comment))
    return status("Statement executed successfully.")


def drop_database(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.plain_name()
    reader.accept("CASCADE", "RESTRICT")
    reader.end()
    if name not in execution.account.catalog.databases and if_exists:
        return status("Drop statement executed successfully.")
    database = execution.database(name)
    execution.require_ownership(database.securable)
    execution.account.drop_database(database)
    return status(f"{names.show((name,))} successfully dropped.")


def create_schema(execution: Execution, reader: Reader) -> Result:
    unless_exists = reader.accept("IF NOT EXISTS") is not None
    name, managed, comment = _definition(execution, reader)
    if execution.account.catalog.schema(name) is not None:
        if unless_exists:
            return status(f"{name[1]} already exists, statement succeeded.")
        raise errors.exists(names.show(name))
    return _create(execution, name, managed, comment)


def replace_schema(execution: Execution, reader: Reader) -> Result:
    name, managed, comment = _definition(execution, reader)
    schema = execution.account.catalog.schema(name)
    if schema is not None:
        _remove(execution, schema)
    return _create(execution, name, managed, comment)


def alter_schema(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = execution.schema_name(reader.object_name())
    if execution.account.catalog.schema(name) is None and if_exists:
        return status("Statement executed successfully.")
    schema = execution.schema(name)
    access = reader.accept("ENABLE MANAGED ACCESS", "DISABLE MANAGED ACCESS")
    if access is not None:
        reader.end()
        execution.require_ownership(schema.securable)
        schema.managed = access.startswith("ENABLE")
    else:
        reader.expect("SET")
        changes = reader.properties()
        reader.end()
        execution.require("MODIFY", schema.securable)
        schema.comment = str(changes.get("COMMENT", schema.comment))
    return status("Statement executed successfully.")


def drop_schema(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = execution.schema_name(reader.object_name())
    how = reader.accept("CASCADE", "RESTRICT")
    reader.end()
    if execution.account.catalog.schema(name) is None and if_exists:
        return status("Drop statement executed successfully.")
    schema = execution.schema(name)
    if how == "RESTRICT" and schema.tables:
        raise errors.impossible()
    _remove(execution, schema)
    return status(f"{names.show(name[1:])} successfully dropped.")


def _definition(execution: Execution, reader: Reader) -> tuple[ObjectName, bool, str]:
    name = execution.schema_name(reader.object_name())
    managed = reader.accept("WITH MANAGED ACCESS") is not None
    options = reader.properties()
    reader.end()
    execution.require("CREATE SCHEMA", execution.database(name[0]).securable)
    return name, managed, str(options.get("COMMENT") or "")


def _create(execution: Execution, name: ObjectName, managed: bool, comment: str) -> Result:
    account = execution.account
    schema = Schema(name, execution.now, managed, comment)
    account.add_schema(schema)
    account.rights.created(schema.securable, execution.session.role, execution.now)
    execution.session.database, execution.session.schema = name
    return status(f"Schema {names.show(name[1:])} successfully created.")


def _remove(execution: Execution, schema: Schema) -> None:
    if schema.name[1] == INFORMATION_SCHEMA:
        raise errors.forbidden("schema", names.show(schema.name))
    execution.require_ownership(schema.securable)
    execution.account.drop_schema(schema)
