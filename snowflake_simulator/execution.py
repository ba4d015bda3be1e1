"""What a statement is run with: the account, the session's rights and its names."""

from datetime import datetime
from functools import cached_property

from snowflake_simulator import errors, names
from snowflake_simulator.account import Account
from snowflake_simulator.catalog import INFORMATION_SCHEMA, Database, Schema, Table, Warehouse
from snowflake_simulator.engine import Connection
from snowflake_simulator.names import ObjectName
from snowflake_simulator.queries import Query
from snowflake_simulator.rights import ACCOUNT, ADMIN, MANAGE_GRANTS, OWNERSHIP, Securable
from snowflake_simulator.sessions import Session
from snowflake_simulator.users import User


class Execution:
    """One statement on its way. Look-ups are made under the account's lock."""

    def __init__(self, account: Account, session: Session, query: Query) -> None:
        self.account = account
        self.session = session
        self.query = query

    @cached_property
    def roles(self) -> set[str]:
        return self.account.roles_of(self.session)

    @property
    def now(self) -> datetime:
        return self.account.clock.now()

    @property
    def connection(self) -> Connection:
        connection = self.session.connection(self.account.engine)
        self.query.interrupt = connection.interrupt
        return connection

    # Rights --------------------------------------------------------------------------

    def allows(self, privilege: str, on: Securable) -> bool:
        return self.account.rights.allows(self.roles, privilege, on)

    def knows(self, on: Securable) -> bool:
        """Whether the session may know that an object exists."""
        return self.account.rights.knows(self.roles, on)

    @property
    def manages_grants(self) -> bool:
        return self.allows(MANAGE_GRANTS, ACCOUNT)

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles

    def require(self, privilege: str, on: Securable) -> None:
        if not self.allows(privilege, on):
            raise errors.forbidden(on.kind, on.shown)

    def require_ownership(self, on: Securable) -> None:
        self.require(OWNERSHIP, on)

    # Names ---------------------------------------------------------------------------

    @property
    def current_database(self) -> str | None:
        """The session's database, None once it was dropped or access to it was taken."""
        name = self.session.database
        database = None if name is None else self.account.catalog.databases.get(name)
        return name if database is not None and self.knows(database.securable) else None

    @property
    def current_schema(self) -> str | None:
        database, name = self.current_database, self.session.schema
        if database is None or name is None:
            return None
        schema = self.account.catalog.schema((database, name))
        return name if schema is not None and self._sees_schema(schema) else None

    @property
    def current_warehouse(self) -> str | None:
        name = self.session.warehouse
        warehouse = None if name is None else self.account.catalog.warehouses.get(name)
        if warehouse is None or not self.allows("USAGE", warehouse.securable):
            return None
        return name

    def schema_name(self, name: ObjectName) -> ObjectName:
        """Complete a schema's name with the session's database."""
        if len(name) > 2:
            raise errors.missing("schema", names.show(name))
        if len(name) == 2:
            return name
        if self.current_database is None:
            raise errors.no_database(self.query.type)
        return (self.current_database, *name)

    def table_name(self, name: ObjectName) -> ObjectName:
        """Complete the name of a table or view with the session's database and schema."""
        if len(name) > 3:
            raise errors.missing("object", names.show(name))
        if len(name) > 1:
            return (*self.schema_name(name[:-1]), name[-1])
        if self.current_database is None:
            raise errors.no_database(self.query.type)
        if self.current_schema is None:
            raise errors.no_schema(self.query.type)
        return (self.current_database, self.current_schema, *name)

    # Objects -------------------------------------------------------------------------

    def user(self, name: str) -> User:
        user = self.account.users.get(name)
        if user is None:
            raise errors.missing("user", names.show((name,)))
        return user

    def role(self, name: str) -> Securable:
        if name not in self.account.rights.roles:
            raise errors.missing("role", names.show((name,)))
        return Securable("ROLE", (name,))

    def warehouse(self, name: str) -> Warehouse:
        warehouse = self.account.catalog.warehouses.get(name)
        if warehouse is None or not self._known(warehouse.securable):
            raise errors.missing("warehouse", names.show((name,)))
        return warehouse

    def database(self, name: str) -> Database:
        database = self.account.catalog.databases.get(name)
        if database is None or not self._known(database.securable):
            raise errors.missing("database", names.show((name,)))
        return database

    def schema(self, name: ObjectName) -> Schema:
        """Return a schema that the session may see, by its name as it was written."""
        complete = self.schema_name(name)
        self.database(complete[0])
        schema = self.account.catalog.schema(complete)
        if schema is None or not (self._sees_schema(schema) or self.manages_grants):
            raise errors.missing("schema", names.show(complete))
        return schema

    def table(self, name: ObjectName) -> Table:
        """Return a table or view that the session may see."""
        complete = self.table_name(name)
        schema = self.schema(complete[:2])
        table = schema.tables.get(complete[2])
        if table is None or not self._known(table.securable):
            raise errors.missing("object", names.show(complete))
        return table

    def usable_table(self, name: ObjectName, privileges: list[str]) -> Table:
        """Return a table that the session may do all of this with."""
        complete = self.table_name(name)
        database = self.database(complete[0])
        if not self.allows("USAGE", database.securable):
            raise errors.missing("database", names.show(complete[:1]))
        self.usable_schema(complete[:2])
        table = self.table(complete)
        for privilege in privileges:
            self.require(privilege, table.securable)
        return table

    def usable_schema(self, name: ObjectName) -> Schema:
        schema = self.schema(name)
        if not self._sees_schema(schema):
            raise errors.missing("schema", names.show(schema.name))
        if schema.name[1] != INFORMATION_SCHEMA and not self.allows("USAGE", schema.securable):
            raise errors.missing("schema", names.show(schema.name))
        return schema

    def require_warehouse(self) -> None:
        if self.current_warehouse is None:
            raise errors.no_warehouse()

    def _known(self, on: Securable) -> bool:
        return self.knows(on) or self.manages_grants

    def _sees_schema(self, schema: Schema) -> bool:
        database = self.account.catalog.databases[schema.name[0]].securable
        if not self.allows("USAGE", database):
            return False
        if schema.name[1] == INFORMATION_SCHEMA:
            return True
        return self.knows(schema.securable) or self.allows("IMPORTED PRIVILEGES", database)
