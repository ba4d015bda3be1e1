"""CREATE, ALTER and DROP WAREHOUSE. A warehouse computes nothing; it is only checked for."""

from snowflake_simulator import errors, names
from snowflake_simulator.catalog import Warehouse
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result, status
from snowflake_simulator.rights import ACCOUNT
from snowflake_simulator.users import check_parameter


def create(execution: Execution, reader: Reader) -> Result:
    unless_exists = reader.accept("IF NOT EXISTS") is not None
    name = reader.plain_name()
    reader.accept("WITH")
    properties = reader.properties()
    reader.end()
    execution.require("CREATE WAREHOUSE", ACCOUNT)
    account = execution.account
    if name in account.catalog.warehouses:
        if unless_exists:
            return status(f"{name} already exists, statement succeeded.")
        raise errors.exists(names.show((name,)))
    warehouse = Warehouse(name, execution.now, properties)
    account.catalog.warehouses[name] = warehouse
    account.rights.created(warehouse.securable, execution.session.role, execution.now)
    execution.session.warehouse = name
    return status(f"Warehouse {names.show((name,))} successfully created.")


def alter(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.plain_name()
    if name not in execution.account.catalog.warehouses and if_exists:
        return status("Statement executed successfully.")
    warehouse = execution.warehouse(name)
    action = reader.expect("SET", "SUSPEND", "RESUME", "ABORT ALL QUERIES")
    changes = reader.properties() if action == "SET" else {}
    reader.accept("IF SUSPENDED")
    reader.end()
    execution.require("MODIFY" if action == "SET" else "OPERATE", warehouse.securable)
    for key, value in changes.items():
        check_parameter(key, value)
    warehouse.properties.update(changes)
    if action == "ABORT ALL QUERIES":
        execution.account.queries.cancel(
            lambda query: query.warehouse == name and query is not execution.query
        )
    return status("Statement executed successfully.")


def drop(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.plain_name()
    reader.end()
    account = execution.account
    if name not in account.catalog.warehouses and if_exists:
        return status("Drop statement executed successfully.")
    warehouse = execution.warehouse(name)
    execution.require_ownership(warehouse.securable)
    del account.catalog.warehouses[name]
    account.rights.forget(warehouse.securable)
    return status(f"{names.show((name,))} successfully dropped.")
