"""What is done on a server for a credential: a database and a login.

All statements commit by themselves (account and database statements always do), so each verb
is a series of idempotent steps. A step that fails leaves only what the row names, and the next
run of the same verb finishes it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import ER

from provisioning.backends.base import (
    EngineError,
    EngineRefused,
    Health,
    LoginRefused,
    NameInUse,
    Owner,
    ServerObject,
    Spec,
)
from provisioning.backends.mysql.accounts import (
    account,
    count_databases,
    grant_pattern,
    native_hash,
    open_login,
)
from provisioning.backends.mysql.check import check_server, explain, explain_refused_login
from provisioning.backends.mysql.inventory import ANY_HOST, take_inventory
from provisioning.backends.mysql.locks import Locks
from provisioning.backends.mysql.removal import (
    end_access,
    end_shared_access,
    remove_databases,
)
from provisioning.backends.mysql.server import Server, Statements, translate
from provisioning.backends.mysql.sessions import end_present_sessions
from provisioning.backends.naming import (
    DATABASE_NAME_LIMIT,
    USER_NAME_LIMIT,
    build_name,
    escaped_width,
    granted_database,
    person_name_part,
    quote_mysql_name,
)
from provisioning.backends.servers.admin_password import RecordedPasswords, nothing_recorded
from provisioning.backends.servers.fleet import DynamicFleet
from provisioning.backends.sql import PasswordSQLBackend, succeeds
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import MySQLServer
from provisioning.state.claims import Lease
from provisioning.state.failpoints import failpoint

_USER_EXISTS = ER.CANNOT_USER
_DATABASE_EXISTS = ER.DB_CREATE_EXISTS
_TOO_MANY_USER_CONNECTIONS = {ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED}

#: Logins that one statement drops: more are hardly faster, and everybody's logins wait meanwhile.
LOGINS_PER_STATEMENT = 8


class MySQLBackend(PasswordSQLBackend[Server]):
    """Credentials on MySQL and MariaDB servers (contract section 10)."""

    name = "mysql"
    parts = frozenset({"database", "login", "grant"})

    def __init__(
        self,
        servers: tuple[MySQLServer, ...],
        limits: dict[str, Limits],
        timeout: int,
        connections: int,
        *,
        lock_secret: Callable[[], Secret],
        registered: Callable[[], Iterable[MySQLServer] | None] = tuple,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        fleet: DynamicFleet[MySQLServer, Server] = DynamicFleet(
            lambda config: Server(config, timeout, connections, recorded), servers, registered
        )
        super().__init__(fleet, limits)
        self._locks = Locks(lock_secret)

    # Pure ---------------------------------------------------------------------------

    def shares_login(self, type_: str) -> bool:
        return type_ == "sandbox"

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        kind = {"sandbox": "sand", "transformations": "tran"}[type_]
        number = str(credentials_id)
        # The server limits the grant's escaped form to the same 64 characters.
        database = build_name(
            prefix,
            kind,
            owner.project_id,
            number,
            limit=DATABASE_NAME_LIMIT,
            width=escaped_width,
        )
        if self.shares_login(type_):
            person = person_name_part(owner.person_id, owner.token_id)
            user = build_name(prefix, "user", person, limit=USER_NAME_LIMIT)
        else:
            user = build_name(prefix, kind, owner.project_id, number, limit=USER_NAME_LIMIT)
        return Spec(credentials_id, type_, server, user, database)

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        config = self._servers[spec.server].config
        return {
            "hostname": config.public_host,
            "port": config.public_port,
            "db": spec.object_name,
            "user": spec.user_name,
            "password": password.reveal(),
        }

    # Create -------------------------------------------------------------------------

    def create(self, spec: Spec, password: Secret, lease: Lease) -> None:
        server = self._servers[spec.server]
        with server.statements() as run:
            self._locks.fence(run, server, [(spec, lease)])
            failpoint("create.locked")
            self._create_database(run, spec, lease)
            failpoint("create.database")
            if self.shares_login(spec.type):
                self._locks.lock_login(run, server, spec)
            self._create_login(run, server, spec, password, lease)
            failpoint("create.login")
            pattern = grant_pattern(server, spec)
            run(f"GRANT ALL PRIVILEGES ON {pattern}.* TO {account(spec)}")
            failpoint("create.grant")
            run("SELECT RELEASE_ALL_LOCKS()")
        _verify_login(server, spec, password)
        failpoint("create.verified")

    def _create_database(self, run: Statements, spec: Spec, lease: Lease) -> None:
        sql = f"CREATE DATABASE {quote_mysql_name(spec.object_name)} CHARACTER SET utf8mb4"
        if not run.ignoring({_DATABASE_EXISTS}, sql) and _is_first_attempt(lease):
            raise NameInUse(f"server {spec.server}: database {spec.object_name} exists")

    def _create_login(
        self, run: Statements, server: Server, spec: Spec, password: Secret, lease: Lease
    ) -> None:
        identity = f"`{spec.user_name}`@%s IDENTIFIED BY %s{self._login_options(server, spec)}"
        values = (ANY_HOST, password.reveal())
        if run.ignoring({_USER_EXISTS}, f"CREATE USER {identity}", *values):
            return
        if _is_first_attempt(lease) and not self.shares_login(spec.type):
            run(f"DROP DATABASE {quote_mysql_name(spec.object_name)}")
            raise NameInUse(f"server {spec.server}: user {spec.user_name} exists")
        if self.shares_login(spec.type):
            # Its password is not this credential's to set: another one may set it just now.
            run(f"ALTER USER {account(spec)}{self._login_options(server, spec)}")
        else:
            run(f"ALTER USER {identity}", *values)
        # Half of a drop may have locked it.
        run(f"ALTER USER {account(spec)} ACCOUNT UNLOCK")

    def _login_options(self, server: Server, spec: Spec) -> str:
        limits = self._limits[spec.type]
        options = " REQUIRE SSL" if server.config.require_tls else " REQUIRE NONE"
        options += f" WITH MAX_USER_CONNECTIONS {limits.connections}"
        if server.is_mariadb:
            options += f" MAX_STATEMENT_TIME {limits.statement_seconds}"
        return options

    # Passwords ----------------------------------------------------------------------

    def lets_in(self, spec: Spec, password: Secret) -> bool:
        server = self._servers[spec.server]
        complete, stored = self._look(server, spec)
        # A look is cheaper than a login, where the password can be compared.
        if not complete or stored == native_hash(password):
            return complete
        return succeeds(lambda: _verify_login(server, spec, password))

    def set_password(
        self, spec: Spec, password: Secret, lease: Lease, *, end_sessions: bool
    ) -> None:
        server = self._servers[spec.server]
        with server.statements() as run:
            if self.shares_login(spec.type):
                self._locks.fence_login(run, server, spec, lease)
            else:
                self._locks.fence(run, server, [(spec, lease)])
            failpoint("password.locked")
            change = f"ALTER USER `{spec.user_name}`@%s IDENTIFIED BY %s"
            run(change, ANY_HOST, password.reveal())
            failpoint("password.set")
            run("SELECT RELEASE_ALL_LOCKS()")
        _verify_login(server, spec, password)
        if end_sessions:
            with server.statements() as run:
                end_present_sessions(run, server, [spec])

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        complete, _ = self._look(self._servers[spec.server], spec)
        return complete

    def _look(self, server: Server, spec: Spec) -> tuple[bool, str | None]:
        """Return whether all parts are there, and the stored password as `native_hash` has it."""
        with server.statements() as run:
            ((databases, login, grants),) = run(
                "SELECT (SELECT COUNT(*) FROM information_schema.schemata "
                f"WHERE schema_name = %s), ({open_login(server)}), "
                "(SELECT COUNT(*) FROM mysql.db WHERE Host = %s AND User = %s AND Db = %s)",
                spec.object_name,
                ANY_HOST,
                spec.user_name,
                ANY_HOST,
                spec.user_name,
                granted_database(spec.object_name, wildcards=server.grant_wildcards),
            )
        return bool(databases and login is not None and grants), login or None

    def in_use(self, spec: Spec) -> bool:
        server = self._servers[spec.server]
        if not self.shares_login(spec.type):
            return bool(server.sessions.databases_of(spec.user_name))
        open_in = server.sessions.databases_of(spec.user_name, spec.object_name)
        if not open_in or spec.object_name in open_in:
            return bool(open_in)
        with server.statements() as run:
            return count_databases(run, spec) <= 1

    def _check_server(self, server: Server) -> Health:
        return check_server(server, self._limits)

    def explain(self, server: str, problem: EngineError) -> str:
        return explain(self._servers[server], problem)

    def _take_inventory(self, server: Server, prefix: str) -> list[ServerObject]:
        with server.statements() as run:
            return take_inventory(run, server.config.name, prefix)

    def prolong(self, spec: Spec) -> None:
        """Do nothing: a login's password ends with the login."""

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        server = self._servers[spec.server]
        with server.statements() as run:
            lease.check()
            only_here = self.shares_login(spec.type) and count_databases(run, spec) > 1
            return end_present_sessions(run, server, [spec], only_here=only_here)

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        server = self._servers[spec.server]
        with self._locked(server, [(spec, lease)]) as run:
            if not self.shares_login(spec.type):
                end_access(run, server, [spec])
            elif spec.user_name:
                end_shared_access(run, server, self._locks, spec)
            # An orphan that no login was granted has nobody in it.
            access_ended()
            remove_databases(run, server, [spec])
        failpoint("drop.checked")

    def drop_many(self, removals: Sequence[tuple[Spec, Lease]]) -> Iterator[list[Spec]]:
        alone = [one for one in removals if not self.shares_login(one[0].type)]
        for first in range(0, len(alone), LOGINS_PER_STATEMENT):
            group = alone[first : first + LOGINS_PER_STATEMENT]
            specs = [spec for spec, _ in group]
            server = self._servers[specs[0].server]
            with self._locked(server, group) as run:
                end_access(run, server, specs)
                remove_databases(run, server, specs)
            failpoint("drop.checked")
            yield specs

    @contextmanager
    def _locked(
        self, server: Server, removals: Sequence[tuple[Spec, Lease]]
    ) -> Iterator[Statements]:
        """Hold the locks of what the block takes away; an error ends the session with them."""
        with server.statements() as run:
            self._locks.fence(run, server, removals)
            failpoint("drop.locked")
            yield run
            run("SELECT RELEASE_ALL_LOCKS()")


# Steps ----------------------------------------------------------------------------------


def _is_first_attempt(lease: Lease) -> bool:
    """Return whether nobody has worked on this row before, so nothing of it can exist."""
    return lease.token == 1


def _verify_login(server: Server, spec: Spec, password: Secret) -> None:
    try:
        server.connect_as(spec.user_name, password, spec.object_name).close()
    except pymysql.Error as problem:
        error = translate(problem, f"{spec.server}: login")
        # Connections that a shared login already holds prove that it works.
        if error.code in _TOO_MANY_USER_CONNECTIONS:
            return
        if isinstance(error, EngineRefused):
            why = explain_refused_login(server, str(error.args[0]))
            raise LoginRefused(why, *error.args[1:]) from None
        raise error from None
