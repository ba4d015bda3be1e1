"""Reads ``<kind> <name>`` as GRANT and SHOW GRANTS take it."""

from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.rights import PRIVILEGES, Securable

_KINDS = tuple(kind for kind in PRIVILEGES if kind != "ACCOUNT")


def read_kind(reader: Reader, *, plural: bool = False) -> str:
    """Read the kind of an object and return it in the singular."""
    if not plural:
        return reader.expect(*_KINDS)
    return reader.expect(*(f"{kind}S" for kind in _KINDS))[:-1]


def read_securable(execution: Execution, reader: Reader) -> Securable:
    """Read an object that the session may see."""
    kind = read_kind(reader)
    match kind:
        case "USER":
            return Securable(kind, (execution.user(reader.plain_name()).name,))
        case "ROLE":
            return execution.role(reader.plain_name())
        case "WAREHOUSE":
            return execution.warehouse(reader.plain_name()).securable
        case "DATABASE":
            return execution.database(reader.plain_name()).securable
        case "SCHEMA":
            return execution.schema(reader.object_name()).securable
        case _:
            return execution.table(reader.object_name()).securable
