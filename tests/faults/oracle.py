"""The judge of every fault: compares what the state promises with what the servers have.

After a fault and the time to settle, six counters must be zero:

- orphans: objects on a server that bear our prefix and that no live row names,
- ghosts: active rows whose database is missing or whose login does not work,
- zombies: rows and jobs that are unfinished past their time,
- open: sessions of logins, or in databases, that no live row names,
- double: more than one live credential or database for one token and type,
- lost: promises to callers that are not kept, either way: what was acknowledged cannot be
  read, or what was dropped still can.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import pymysql
from sqlalchemy import select

from devstack.mariadb import MariaDB
from devstack.processes import wait_until
from provisioning import errors
from provisioning.installation import Installation
from provisioning.models import Credentials, Job
from provisioning.service import find_by_id
from provisioning.states import UNFINISHED_JOBS, CredentialsState
from provisioning.tokens import Caller as Principal
from provisioning.vault import Secret
from tests.faults.callers import Ledger, Promise
from tests.faults.stack import SETTLE

LIVE = (CredentialsState.CREATING, CredentialsState.ACTIVE, CredentialsState.DROPPING)
ANY_HOST = "%"


@dataclass(frozen=True)
class Findings:
    """What is wrong, in words, by counter."""

    orphans: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    zombies: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}

    def table(self) -> str:
        """Return the counters, each with what it counted."""
        lines = ["counter  | count | what", "---------+-------+-----"]
        for name, count in self.counts().items():
            first, *others = getattr(self, name) or ["-"]
            lines.append(f"{name:8} | {count:5} | {first}")
            lines.extend(f"{'':8} | {'':5} | {other}" for other in others[:20])
        return "\n".join(lines)


@dataclass(frozen=True)
class Inventory:
    """What one server has under the installation's prefix."""

    databases: frozenset[str]
    users: frozenset[str]
    #: (user, database) of each grant.
    grants: frozenset[tuple[str, str]]
    #: (session, user, current database)
    sessions: Sequence[tuple[int, str, str | None]]


def take_inventory(server: MariaDB, prefix: str) -> Inventory:
    """List what bears the prefix on a server; the grants' databases without the escapes."""
    assert prefix, "without a prefix nothing could be told from others' objects"
    pattern = prefix.replace("_", "\\_") + "%"
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:

        def ask(query: str) -> list[tuple[object, ...]]:
            cursor.execute(query, (pattern,))
            return list(cursor.fetchall())

        return Inventory(
            databases=frozenset(
                str(row[0])
                for row in ask(
                    "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s"
                )
            ),
            users=frozenset(
                str(row[0]) for row in ask("SELECT user FROM mysql.user WHERE user LIKE %s")
            ),
            grants=frozenset(
                (str(user), str(database).replace("\\", ""))
                for user, database in ask("SELECT user, db FROM mysql.db WHERE user LIKE %s")
            ),
            sessions=[
                (int(str(number)), str(user), None if database is None else str(database))
                for number, user, database in ask(
                    "SELECT id, user, db FROM information_schema.processlist WHERE user LIKE %s"
                )
            ],
        )


class Oracle:
    """Compares an installation with its servers, named as the configuration names them."""

    def __init__(
        self,
        installation: Installation,
        servers: Mapping[str, MariaDB],
        ledger: Ledger | None = None,
    ) -> None:
        self.installation = installation
        self.servers = servers
        self.ledger = ledger or Ledger()

    # Settling -----------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Return rows and jobs that somebody still has to work on."""
        with self.installation.database.read() as session:
            rows = session.scalars(
                select(Credentials).where(
                    Credentials.state.in_((CredentialsState.CREATING, CredentialsState.DROPPING))
                )
            ).all()
            jobs = session.scalars(select(Job).where(Job.status.in_(UNFINISHED_JOBS))).all()
        return [
            f"credentials {row.id} {row.state}, attempts {row.attempts}, {row.failure}"
            for row in rows
        ] + [
            f"job {job.id} {job.command} {job.status}, attempts {job.attempts}, {job.failure}"
            for job in jobs
        ]

    def settle(self, timeout: float = SETTLE) -> bool:
        """Wait until nothing is unfinished; return False if that takes longer."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.unfinished(), timeout=timeout, what="the end of all work")
            return True
        return False

    def assert_clean(self, timeout: float = SETTLE) -> None:
        """Settle, then fail with a table unless all six counters are zero."""
        self.settle(timeout)
        findings = self.look()
        assert not any(findings.counts().values()), f"the oracle objects:\n{findings.table()}"

    # Looking ------------------------------------------------------------------------

    def look(self) -> Findings:
        """Compare both sides as they are now."""
        with self.installation.database.read() as session:
            rows = session.scalars(select(Credentials)).all()
        found = {
            name: take_inventory(server, self.installation.prefix)
            for name, server in self.servers.items()
        }
        live = [row for row in rows if row.state in LIVE]
        active = [row for row in live if row.state is CredentialsState.ACTIVE]
        return Findings(
            orphans=_join(
                _orphans(name, inventory, [row for row in live if row.server == name])
                for name, inventory in found.items()
            ),
            ghosts=_join(self._ghost(row, found[row.server]) for row in active),
            zombies=self.unfinished(),
            open=_join(
                _open(name, inventory, [row for row in live if row.server == name])
                for name, inventory in found.items()
            ),
            double=_double(rows, found),
            lost=_join(
                self._lost(number, promise) for number, promise in self.ledger.promises.items()
            ),
        )

    def _ghost(self, row: Credentials, inventory: Inventory) -> list[str]:
        if row.object_name not in inventory.databases:
            return [f"{row.id} has no database {row.object_name}"]
        if row.user_name not in inventory.users:
            return [f"{row.id} has no login {row.user_name}"]
        try:
            password = self.installation.vault.decrypt(row.secret)
            _try_login(self.servers[row.server], row.user_name, password, row.object_name)
        except errors.ConfigurationError:
            return [f"{row.id} has no password that opens"]
        except pymysql.Error as problem:
            return [f"{row.id}: login {row.user_name} fails: {problem.args[0]}"]
        return []

    def _lost(self, number: str, promise: Promise) -> list[str]:
        if promise.leaving and not promise.deleted:
            return []
        seen = self._read(number, promise)
        if promise.deleted:
            return [] if seen is None else [f"{number} was dropped and can be read"]
        if seen is None:
            return [f"{number} was acknowledged and cannot be read"]
        wanted = {name: value for name, value in promise.credentials.items() if name != "id"}
        return [] if seen == wanted else [f"{number} has other credentials than acknowledged"]

    def _read(self, number: str, promise: Promise) -> dict[str, object] | None:
        """Return what the owner is shown, by the code that answers the owner."""
        token = Secret(promise.token)
        owner = Principal(self.installation.tokens.verify(token), token)
        try:
            return find_by_id(self.installation, owner, "mysql", number).details
        except errors.CredentialsNotFound:
            return None


def _join(parts: Iterable[list[str]]) -> list[str]:
    return [text for part in parts for text in part]


def _try_login(server: MariaDB, user: str, password: Secret, database: str) -> None:
    pymysql.connect(
        host=server.host,
        port=server.port,
        user=user,
        password=password.reveal(),
        database=database,
        connect_timeout=10,
        read_timeout=10,
        ssl_disabled=True,
    ).close()


def _orphans(name: str, inventory: Inventory, rows: list[Credentials]) -> list[str]:
    databases = {row.object_name for row in rows}
    users = {row.user_name for row in rows}
    grants = {(row.user_name, row.object_name) for row in rows}
    return (
        [f"{name}: database {one}" for one in sorted(inventory.databases - databases)]
        + [f"{name}: login {one}" for one in sorted(inventory.users - users)]
        # A grant for a user or a database that is no orphan itself: counted once.
        + [
            f"{name}: grant of {user} on {database}"
            for user, database in sorted(inventory.grants - grants)
            if user in users and database not in inventory.databases - databases
        ]
    )


def _open(name: str, inventory: Inventory, rows: list[Credentials]) -> list[str]:
    users = {row.user_name for row in rows}
    databases = {row.object_name for row in rows} | {None}
    return [
        f"{name}: session {number} of {user} in {database}"
        for number, user, database in inventory.sessions
        if user not in users or database not in databases
    ]


def _double(rows: Sequence[Credentials], found: Mapping[str, Inventory]) -> list[str]:
    """Count live rows, and databases that still exist for any row, by token and type."""

    def holds(row: Credentials) -> bool:
        if row.state in (CredentialsState.CREATING, CredentialsState.ACTIVE):
            return True
        inventory = found.get(row.server)
        return inventory is not None and row.object_name in inventory.databases

    owners = Counter((row.token_id, row.backend, row.type) for row in rows if holds(row))
    return [
        f"token {token}: {count} of {backend} {type_}"
        for (token, backend, type_), count in owners.items()
        if count > 1
    ]
