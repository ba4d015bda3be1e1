"""CREATE and DROP ROLE."""

from snowflake_simulator import errors, names
from snowflake_simulator.account import SYSTEM_ROLES
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result, status
from snowflake_simulator.rights import ACCOUNT, Role


def create(execution: Execution, reader: Reader) -> Result:
    unless_exists = reader.accept("IF NOT EXISTS") is not None
    name, comment = _definition(reader)
    execution.require("CREATE ROLE", ACCOUNT)
    if name in execution.account.rights.roles:
        if unless_exists:
            return status(f"{name} already exists, statement succeeded.")
        raise errors.exists(names.show((name,)))
    return _create(execution, name, comment)


def replace(execution: Execution, reader: Reader) -> Result:
    name, comment = _definition(reader)
    execution.require("CREATE ROLE", ACCOUNT)
    if name in execution.account.rights.roles:
        _remove(execution, name)
    return _create(execution, name, comment)


def drop(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.plain_name()
    reader.end()
    if name not in execution.account.rights.roles and if_exists:
        return status("Drop statement executed successfully.")
    _remove(execution, name)
    return status(f"{names.show((name,))} successfully dropped.")


def _definition(reader: Reader) -> tuple[str, str]:
    name = reader.plain_name()
    options = reader.properties()
    reader.end()
    comment = options.pop("COMMENT", "")
    if options:
        raise errors.invalid_property(next(iter(options)), "ROLE")
    return name, str(comment)


def _create(execution: Execution, name: str, comment: str) -> Result:
    rights = execution.account.rights
    rights.roles[name] = Role(name, execution.now, comment)
    rights.set_owner(execution.role(name), execution.session.role, execution.now)
    return status(f"Role {names.show((name,))} successfully created.")


def _remove(execution: Execution, name: str) -> None:
    on = execution.role(name)
    if name in SYSTEM_ROLES:
        raise errors.forbidden("role", names.show((name,)))
    execution.require_ownership(on)
    account = execution.account
    account.rights.drop_role(name, execution.session.role, execution.now)
    for user in account.users.values():
        user.roles.pop(name, None)
