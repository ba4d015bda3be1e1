"""What is done on a server for a credential: a database and a login.

All statements commit by themselves (account and database statements always do), so each verb
is a series of idempotent steps. A step that fails leaves only what the row names, and the next
run of the same verb finishes it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import ER

from provisioning.backends.base import (
    EngineBusy,
    Health,
    NameInUse,
    Owner,
    ServerObject,
    Spec,
)
from provisioning.backends.mysql.check import check_server
from provisioning.backends.mysql.inventory import ANY_HOST, take_inventory
from provisioning.backends.mysql.server import LOCK_WAIT, Server, Statements, translate
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
from provisioning.backends.sql import PasswordSQLBackend
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import MySQLServer
from provisioning.state.claims import Lease
from provisioning.state.failpoints import failpoint

_NO_SUCH_THREAD = ER.NO_SUCH_THREAD
_USER_EXISTS = ER.CANNOT_USER
_DATABASE_EXISTS = ER.DB_CREATE_EXISTS
_TOO_MANY_USER_CONNECTIONS = {ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED}

#: Seconds until killed sessions must be gone.
SESSIONS_PATIENCE = 8.0
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
        registered: Callable[[], Iterable[MySQLServer] | None] = tuple,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        fleet: DynamicFleet[MySQLServer, Server] = DynamicFleet(
            lambda config: Server(config, timeout, connections, recorded), servers, registered
        )
        super().__init__(fleet, limits)

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
            _fence(run, [(spec, lease)])
            failpoint("create.locked")
            self._create_database(run, spec, lease)
            failpoint("create.database")
            if self.shares_login(spec.type):
                _lock_login(run, spec)
            self._create_login(run, server, spec, password, lease)
            failpoint("create.login")
            pattern = _grant_pattern(server, spec)
            run(f"GRANT ALL PRIVILEGES ON {pattern}.* TO {_account(spec)}")
            failpoint("create.grant")
            run("SELECT RELEASE_ALL_LOCKS()")
        _verify_login(server, spec, password)
        failpoint("create.verified")

    def _create_database(self, run: Statements, spec: Spec, lease: Lease) -> None:
        database = quote_mysql_name(spec.object_name)
        if not run.ignoring(
            {_DATABASE_EXISTS}, f"CREATE DATABASE {database}"
        ) and _is_first_attempt(lease):
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
        run(f"ALTER USER {identity}", *values)
        # Half of a drop may have locked it.
        run(f"ALTER USER {_account(spec)} ACCOUNT UNLOCK")

    def _login_options(self, server: Server, spec: Spec) -> str:
        limits = self._limits[spec.type]
        options = " REQUIRE SSL" if server.config.require_tls else " REQUIRE NONE"
        options += f" WITH MAX_USER_CONNECTIONS {limits.connections}"
        if server.is_mariadb:
            options += f" MAX_STATEMENT_TIME {limits.statement_seconds}"
        return options

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        server = self._servers[spec.server]
        with server.statements() as run:
            if server.is_mariadb:
                logins = (
                    "SELECT COUNT(*) FROM mysql.global_priv WHERE Host = %s AND User = %s "
                    "AND COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) = 0"
                )
            else:
                logins = (
                    "SELECT COUNT(*) FROM mysql.user WHERE Host = %s AND User = %s "
                    "AND account_locked = 'N'"
                )
            ((databases, users, grants),) = run(
                "SELECT (SELECT COUNT(*) FROM information_schema.schemata "
                f"WHERE schema_name = %s), ({logins}), "
                "(SELECT COUNT(*) FROM mysql.db WHERE Host = %s AND User = %s AND Db = %s)",
                spec.object_name,
                ANY_HOST,
                spec.user_name,
                ANY_HOST,
                spec.user_name,
                granted_database(spec.object_name, wildcards=server.grant_wildcards),
            )
        return bool(databases and users and grants)

    def in_use(self, spec: Spec) -> bool:
        server = self._servers[spec.server]
        if not self.shares_login(spec.type):
            return bool(server.sessions.databases_of(spec.user_name))
        open_in = server.sessions.databases_of(spec.user_name, spec.object_name)
        if not open_in or spec.object_name in open_in:
            return bool(open_in)
        with server.statements() as run:
            return _grants(run, spec) <= 1

    def _check_server(self, server: Server) -> Health:
        return check_server(server)

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
            only_here = self.shares_login(spec.type) and _grants(run, spec) > 1
            return _end_sessions(run, server, [spec], only_here=only_here)

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        server = self._servers[spec.server]
        with self._removing(server, [(spec, lease)]) as run:
            if self.shares_login(spec.type):
                self._drop_from_shared_login(run, server, spec)
            else:
                _drop_with_logins(run, server, [spec])

    def drop_many(self, removals: Sequence[tuple[Spec, Lease]]) -> Iterator[list[Spec]]:
        alone = [one for one in removals if not self.shares_login(one[0].type)]
        for first in range(0, len(alone), LOGINS_PER_STATEMENT):
            group = alone[first : first + LOGINS_PER_STATEMENT]
            specs = [spec for spec, _ in group]
            server = self._servers[specs[0].server]
            with self._removing(server, group) as run:
                _drop_with_logins(run, server, specs)
            yield specs

    @contextmanager
    def _removing(
        self, server: Server, removals: Sequence[tuple[Spec, Lease]]
    ) -> Iterator[Statements]:
        """Hold the locks of what the block removes, and look afterwards that it is gone."""
        with server.statements() as run:
            _fence(run, removals)
            failpoint("drop.locked")
            yield run
            _require_gone(run, [spec for spec, _ in removals])
            run("SELECT RELEASE_ALL_LOCKS()")
        failpoint("drop.checked")

    def _drop_from_shared_login(self, run: Statements, server: Server, spec: Spec) -> None:
        if not spec.user_name:
            # An orphan that no login was granted: nobody is in it.
            run(_drop_database_statement(spec))
            return
        pattern = _grant_pattern(server, spec)
        # Without the grant nobody comes back into the database once its sessions are ended.
        # An admin that may not GRANT may not REVOKE either, so REVOKE runs only after a GRANT.
        if _is_granted(run, [spec]):
            run(f"REVOKE ALL PRIVILEGES ON {pattern}.* FROM {_account(spec)}")
        failpoint("drop.revoked")
        _end_sessions(run, server, [spec], only_here=True)
        failpoint("drop.sessions")
        if not run.ignoring({ER.LOCK_WAIT_TIMEOUT}, _drop_database_statement(spec)):
            # A session that has moved on to another database still holds a table here.
            _end_sessions(run, server, [spec])
            run(_drop_database_statement(spec))
        failpoint("drop.database")
        _lock_login(run, spec)
        if _grants(run, spec) == 0:
            _drop_logins(run, server, [spec])


# Steps ----------------------------------------------------------------------------------


def _account(spec: Spec) -> str:
    # Names hold only [A-Za-z0-9_] (`naming.build_name`), so backticks are all they need.
    return f"`{spec.user_name}`@`{ANY_HOST}`"


def _grant_pattern(server: Server, spec: Spec) -> str:
    """Return the database as GRANT and REVOKE want it; both must spell it the same way."""
    return quote_mysql_name(granted_database(spec.object_name, wildcards=server.grant_wildcards))


def _is_first_attempt(lease: Lease) -> bool:
    """Return whether nobody has worked on this row before, so nothing of it can exist."""
    return lease.token == 1


def _fence(run: Statements, held: Sequence[tuple[Spec, Lease]]) -> None:
    """Take the credentials' locks on the server, ending a stale holder's session.

    A session that holds a lock without the claim was replaced. Its connection ends here, so it
    cannot run another statement. A replaced holder that arrives only now fails `lease.check`.
    """
    names = [spec.object_name for spec, _ in held]
    (taken,) = run(f"SELECT {', '.join(['GET_LOCK(%s, 0)'] * len(names))}", *names)
    for (spec, lease), is_ours in zip(held, taken, strict=True):
        if is_ours != 1:
            _take_from_holder(run, spec, lease)
        lease.check()


def _take_from_holder(run: Statements, spec: Spec, lease: Lease) -> None:
    name = spec.object_name
    ((holder,),) = run("SELECT IS_USED_LOCK(%s)", name)
    if holder is not None:
        lease.check()
        run.ignoring({_NO_SUCH_THREAD}, f"KILL CONNECTION {int(holder)}")
    if run("SELECT GET_LOCK(%s, %s)", name, LOCK_WAIT) != ((1,),):
        raise EngineBusy(f"server {spec.server}: {name} is locked")


def _lock_login(run: Statements, spec: Spec) -> None:
    """Keep a shared login from being dropped by one credential while another takes it."""
    if run("SELECT GET_LOCK(%s, %s)", f"login {spec.user_name}", LOCK_WAIT) != ((1,),):
        raise EngineBusy(f"server {spec.server}: login {spec.user_name} is locked")


def _grants(run: Statements, spec: Spec) -> int:
    """Return how many databases the login is granted."""
    ((count,),) = run(
        "SELECT COUNT(*) FROM mysql.db WHERE Host = %s AND User = %s", ANY_HOST, spec.user_name
    )
    return int(count)


def _verify_login(server: Server, spec: Spec, password: Secret) -> None:
    try:
        server.connect_as(spec.user_name, password, spec.object_name).close()
    except pymysql.Error as problem:
        error = translate(problem, f"{spec.server}: login")
        # Connections that a shared login already holds prove that it works.
        if error.code not in _TOO_MANY_USER_CONNECTIONS:
            raise error from None


def _end_sessions(
    run: Statements, server: Server, specs: Sequence[Spec], *, only_here: bool = False
) -> int:
    """End the logins' sessions, with ``only_here`` those in their databases; return how many.

    Returns once they are gone from the server's list.
    """
    query = f"SELECT id FROM {server.processlist} WHERE {_in_condition('user', specs)}"
    values = [spec.user_name for spec in specs]
    if only_here:
        query += f" AND {_in_condition('db', specs)}"
        values += [spec.object_name for spec in specs]
    ended: set[int] = set()
    end, pause = time.monotonic() + SESSIONS_PATIENCE, 0.001
    while sessions := [int(row[0]) for row in run(query, *values)]:
        if time.monotonic() > end:
            raise EngineBusy(f"server {specs[0].server}: sessions do not end")
        for session in sessions:
            run.ignoring({_NO_SUCH_THREAD}, f"KILL CONNECTION {session}")
        ended.update(sessions)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return len(ended)


def _in_condition(column: str, specs: Sequence[Spec]) -> str:
    """Return the condition of a column that takes a value for each of them."""
    return f"{column} IN ({', '.join(['%s'] * len(specs))})"


def _drop_with_logins(run: Statements, server: Server, specs: Sequence[Spec]) -> None:
    _drop_logins(run, server, specs)
    for spec in specs:
        run(_drop_database_statement(spec))
        failpoint("drop.database")


def _drop_logins(run: Statements, server: Server, specs: Sequence[Spec]) -> None:
    # DROP USER ends no session, and a dropped user's sessions go on: lock, end, drop, end.
    accounts = ", ".join(_account(spec) for spec in specs)
    run(f"ALTER USER IF EXISTS {accounts} ACCOUNT LOCK")
    failpoint("drop.login_locked")
    _end_sessions(run, server, specs)
    run(f"DROP USER IF EXISTS {accounts}")
    failpoint("drop.login")
    _end_sessions(run, server, specs)


def _drop_database_statement(spec: Spec) -> str:
    return f"DROP DATABASE IF EXISTS {quote_mysql_name(spec.object_name)}"


def _is_granted(run: Statements, specs: Sequence[Spec]) -> bool:
    """Return whether a login has a grant on a database of theirs, however it is spelled."""
    names = [spec.object_name for spec in specs]
    escaped = [granted_database(name, wildcards=True) for name in names]
    users, databases = _in_condition("User", specs), _in_condition("Db", specs)
    ((grants,),) = run(
        "SELECT COUNT(*) FROM mysql.db WHERE Host = %s "
        f"AND {users} AND ({databases} OR {databases})",
        ANY_HOST,
        *(spec.user_name for spec in specs),
        *names,
        *escaped,
    )
    return bool(grants)


def _require_gone(run: Statements, specs: Sequence[Spec]) -> None:
    """Look that the databases and every grant on them are gone; a shared login may stay."""
    # Only a name that stands alone is looked up: for several the server reads its whole directory.
    look = "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s"
    found = run(" UNION ALL ".join([look] * len(specs)), *(spec.object_name for spec in specs))
    if found:
        raise EngineBusy(f"server {specs[0].server}: {found[0][0]} is still there")
    if _is_granted(run, specs):
        raise EngineBusy(f"server {specs[0].server}: a grant is still there")
