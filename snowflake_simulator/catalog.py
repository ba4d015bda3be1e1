"""Databases, schemas, tables, views and warehouses: what exists and under which name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from snowflake_simulator.names import ObjectName
from snowflake_simulator.reader import Value
from snowflake_simulator.rights import Securable

INFORMATION_SCHEMA = "INFORMATION_SCHEMA"
#: The database that holds what the server tells about the account.
SNOWFLAKE = "SNOWFLAKE"


@dataclass
class Table:
    """A table or, with ``kind`` VIEW, a view."""

    name: ObjectName
    kind: str
    created_on: datetime
    comment: str = ""
    #: The statement that made a view.
    text: str = ""
    #: The session that a temporary table ends with.
    session_id: int | None = None

    @property
    def securable(self) -> Securable:
        return Securable(self.kind, self.name)


@dataclass
class Schema:
    name: ObjectName
    created_on: datetime
    managed: bool = False
    comment: str = ""
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def securable(self) -> Securable:
        return Securable("SCHEMA", self.name)


@dataclass
class Database:
    name: str
    created_on: datetime
    comment: str = ""
    schemas: dict[str, Schema] = field(default_factory=dict)

    @property
    def securable(self) -> Securable:
        return Securable("DATABASE", (self.name,))


@dataclass
class Warehouse:
    name: str
    created_on: datetime
    properties: dict[str, Value] = field(default_factory=dict)

    @property
    def securable(self) -> Securable:
        return Securable("WAREHOUSE", (self.name,))

    @property
    def statement_timeout(self) -> int:
        """Seconds, 0 for none."""
        return int(str(self.properties.get("STATEMENT_TIMEOUT_IN_SECONDS") or 0))


class Catalog:
    """Callers hold the account's lock."""

    def __init__(self) -> None:
        self.databases: dict[str, Database] = {}
        self.warehouses: dict[str, Warehouse] = {}

    def schema(self, name: ObjectName) -> Schema | None:
        database = self.databases.get(name[0])
        return None if database is None else database.schemas.get(name[1])

    def table(self, name: ObjectName) -> Table | None:
        schema = self.schema(name[:2])
        return None if schema is None else schema.tables.get(name[2])

    def schemas(self) -> Iterator[Schema]:
        for database in self.databases.values():
            yield from database.schemas.values()

    def tables(self) -> Iterator[Table]:
        for schema in self.schemas():
            yield from schema.tables.values()
