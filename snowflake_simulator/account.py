"""The account: everything the server remembers, behind one lock."""

import threading

from snowflake_simulator import errors
from snowflake_simulator.catalog import INFORMATION_SCHEMA, SNOWFLAKE, Catalog, Database, Schema
from snowflake_simulator.clock import Clock
from snowflake_simulator.credentials import Password, PublicKey
from snowflake_simulator.engine import Engine, physical
from snowflake_simulator.queries import Queries
from snowflake_simulator.rights import ACCOUNT, ADMIN, PUBLIC, Grant, Rights, Role, Securable
from snowflake_simulator.sessions import Session, Sessions
from snowflake_simulator.users import User

#: Which system role takes which others along.
SYSTEM_ROLES: dict[str, tuple[str, ...]] = {
    ADMIN: ("SECURITYADMIN", "SYSADMIN"),
    "SECURITYADMIN": ("USERADMIN",),
    "SYSADMIN": (),
    "USERADMIN": (),
    PUBLIC: (),
}
_SYSTEM_RIGHTS = {
    ADMIN: ("MONITOR", "MONITOR USAGE", "EXECUTE TASK"),
    "SECURITYADMIN": ("MANAGE GRANTS",),
    "SYSADMIN": ("CREATE DATABASE", "CREATE WAREHOUSE"),
    "USERADMIN": ("CREATE ROLE", "CREATE USER"),
}


class Account:
    """Users, rights, catalog, sessions and statements.

    ``lock`` guards users, rights and catalog. It is never held while a query runs.
    """

    def __init__(self, name: str, session_seconds: float, master_seconds: float) -> None:
        self.name = name.upper()
        self.lock = threading.RLock()
        self.clock = Clock()
        self.engine = Engine()
        self.users: dict[str, User] = {}
        self.rights = Rights()
        self.catalog = Catalog()
        self.sessions = Sessions(self.clock, session_seconds, master_seconds)
        self.queries = Queries(self.clock)
        #: Seconds after which the ACCOUNT_USAGE views show what happened.
        self.usage_latency = 0.0
        self._add_system_roles()
        self._add_system_database()

    def add_admin(self, name: str, password: str | None, public_key: str | None) -> None:
        """Make the first user. Its password is not held against the policy."""
        now = self.clock.now()
        user = User(name.upper(), now)
        user.properties["DEFAULT_ROLE"] = ADMIN
        user.roles = {ADMIN: now}
        if password is not None:
            user.password = Password.of(password)
        if public_key is not None:
            user.properties["RSA_PUBLIC_KEY"] = public_key
            user.keys["RSA_PUBLIC_KEY"] = PublicKey(public_key)
        self.users[user.name] = user
        self.rights.set_owner(Securable("USER", (user.name,)), ADMIN, now)

    def roles_of(self, session: Session) -> set[str]:
        """Return every role whose rights the session has."""
        chosen = [session.role]
        if session.secondary_roles:
            chosen += session.user.roles
        return self.rights.inherited(chosen)

    def may_assume(self, user: User, role: str) -> bool:
        return role in self.rights.roles and role in self.rights.inherited(user.roles)

    def end_session(self, session: Session) -> bool:
        """Cancel what a session runs and close it; False when it was closed already."""
        if not self.sessions.forget(session):
            return False
        self.queries.cancel(lambda query: query.session is session)
        session.close(self.clock.now())
        with self.lock:
            for table in list(self.catalog.tables()):
                if table.session_id == session.id:
                    self.drop_table(table.name)
        return True

    def end_expired_sessions(self) -> None:
        """Close the sessions that nobody can renew any more."""
        now = self.clock.now()
        for session in self.sessions.open_sessions():
            if now >= session.master_expires:
                self.end_session(session)

    def drop_table(self, name: tuple[str, ...]) -> None:
        """Remove a table or view with its rows and its grants."""
        schema = self.catalog.schema(name[:2])
        if schema is None or name[2] not in schema.tables:
            raise errors.missing("table", ".".join(name))
        table = schema.tables.pop(name[2])
        self.rights.forget(table.securable)
        self._administer(f"DROP {table.kind} IF EXISTS {physical(name)}")

    def add_schema(self, schema: Schema) -> None:
        self.catalog.databases[schema.name[0]].schemas[schema.name[1]] = schema
        if schema.name[1] != INFORMATION_SCHEMA:
            self._administer(f"CREATE SCHEMA {physical(schema.name)}")

    def drop_schema(self, schema: Schema) -> None:
        del self.catalog.databases[schema.name[0]].schemas[schema.name[1]]
        self.rights.forget(schema.securable)
        if schema.name[1] != INFORMATION_SCHEMA:
            self._administer(f"DROP SCHEMA IF EXISTS {physical(schema.name)} CASCADE")

    def add_database(self, name: str, comment: str, *, public: bool = True) -> Database:
        now = self.clock.now()
        database = self.catalog.databases[name] = Database(name, now, comment)
        self.add_schema(Schema((name, INFORMATION_SCHEMA), now))
        if public:
            self.add_schema(Schema((name, "PUBLIC"), now))
        return database

    def drop_database(self, database: Database) -> None:
        for schema in list(database.schemas.values()):
            self.drop_schema(schema)
        del self.catalog.databases[database.name]
        self.rights.forget(database.securable)

    def close(self) -> None:
        self.queries.stop()
        for session in self.sessions.open_sessions():
            self.end_session(session)
        self.engine.close()

    def _administer(self, sql: str) -> None:
        connection = self.engine.connect()
        try:
            connection.run(sql)
        finally:
            connection.close()

    def _add_system_roles(self) -> None:
        now = self.clock.now()
        for name, granted in SYSTEM_ROLES.items():
            self.rights.roles[name] = Role(name, now, roles=dict.fromkeys(granted, now))
            for privilege in _SYSTEM_RIGHTS.get(name, ()):
                self.rights.grant(Grant(privilege, ACCOUNT, name, "", now, True))

    def _add_system_database(self) -> None:
        now = self.clock.now()
        database = self.add_database(SNOWFLAKE, "", public=False)
        self.add_schema(Schema((SNOWFLAKE, "ACCOUNT_USAGE"), now))
        for privilege in ("USAGE", "IMPORTED PRIVILEGES"):
            self.rights.grant(Grant(privilege, database.securable, ADMIN, "", now))
