"""The judge of every fault: compares what the state promises with what the servers have.

After a fault and the time to settle, six counters must be zero:

- orphans: objects on a server that bear our prefix and that no live row names,
- ghosts: active rows whose database or schema is missing or whose login does not work,
- zombies: rows and jobs that are unfinished past their time,
- open: sessions of logins, or in databases, that no live row names,
- double: more than one live credential, database or schema for one token and type,
- lost: promises to callers that are not kept, either way: what was acknowledged cannot be
  read, or what was dropped still can.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from sqlalchemy import select

from provisioning import errors
from provisioning.access.tokens import Caller as Principal
from provisioning.configuration.secrets import Secret
from provisioning.credentials.reading import find_by_id
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.state.enums import UNFINISHED_JOBS, CredentialsState
from provisioning.state.models import Credentials, Job
from tests.faults.callers import Ledger, Promise
from tests.faults.engines.base import Inventory
from tests.faults.stack import SETTLE, FaultyService
from tests.support.deadlines import wait_until

LIVE = (CredentialsState.CREATING, CredentialsState.ACTIVE, CredentialsState.DROPPING)
#: A server, by its backend and its name.
Place = tuple[str, str]


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


class Oracle:
    """Compares a service's state with its engines."""

    def __init__(self, service: FaultyService, ledger: Ledger | None = None) -> None:
        self.installation = service.installation
        self.engines = {(engine.backend, engine.name): engine for engine in service.engines}
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
        self.ledger.record.found(findings.counts())
        assert not any(findings.counts().values()), f"the oracle objects:\n{findings.table()}"

    # Looking ------------------------------------------------------------------------

    def look(self) -> Findings:
        """Compare both sides as they are now."""
        with self.installation.database.read() as session:
            rows = session.scalars(select(Credentials)).all()
        found = {
            place: engine.take_inventory(self.installation.prefix)
            for place, engine in self.engines.items()
        }
        live = [row for row in rows if row.state in LIVE]
        active = [row for row in live if row.state is CredentialsState.ACTIVE]
        return Findings(
            orphans=_join(
                _orphans(place, inventory, [row for row in live if _place(row) == place])
                for place, inventory in found.items()
            ),
            ghosts=_join(self._ghost(row, found[_place(row)]) for row in active),
            zombies=self.unfinished(),
            open=_join(
                _open(place, inventory, [row for row in live if _place(row) == place])
                for place, inventory in found.items()
            ),
            double=_double(rows, found),
            lost=_join(
                self._lost(number, promise) for number, promise in self.ledger.promises.items()
            ),
        )

    def _ghost(self, row: Credentials, inventory: Inventory) -> list[str]:
        if row.object_name not in inventory.objects:
            return [f"{row.id} has no {row.object_name}"]
        if row.user_name not in inventory.logins:
            return [f"{row.id} has no login {row.user_name}"]
        engine = self.engines[_place(row)]
        try:
            password = self.installation.vault.decrypt(row.secret)
            engine.try_login(backend_of(self.installation, row).describe(spec_of(row), password))
        except errors.ConfigurationError:
            return [f"{row.id} has no password that opens"]
        except engine.error as problem:
            return [f"{row.id}: login {row.user_name} fails: {problem}"]
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
            return find_by_id(self.installation, owner, promise.backend, number).details
        except errors.CredentialsNotFound:
            return None


def _join(parts: Iterable[list[str]]) -> list[str]:
    return [text for part in parts for text in part]


def _place(row: Credentials) -> Place:
    return row.backend, row.server


def _orphans(place: Place, inventory: Inventory, rows: list[Credentials]) -> list[str]:
    backend, server = place
    objects = {row.object_name for row in rows}
    users = {row.user_name for row in rows}
    grants = {(row.user_name, row.object_name) for row in rows}
    found = (
        [f"object {one}" for one in sorted(inventory.objects - objects)]
        + [f"login {one}" for one in sorted(inventory.logins - users)]
        + [f"role {one}" for one in sorted(inventory.roles - users)]
        # A grant for a user or an object that is no orphan itself: counted once.
        + [
            f"grant of {user} on {object_}"
            for user, object_ in sorted(inventory.grants - grants)
            if user in users and object_ not in inventory.objects - objects
        ]
    )
    return [f"{backend} {server}: {one}" for one in found]


def _open(place: Place, inventory: Inventory, rows: list[Credentials]) -> list[str]:
    backend, server = place
    users = {row.user_name for row in rows}
    objects = {row.object_name for row in rows} | {None}
    return [
        f"{backend} {server}: session {number} of {user} in {object_}"
        for number, user, object_ in inventory.sessions
        if user not in users or object_ not in objects
    ]


def _double(rows: Sequence[Credentials], found: Mapping[Place, Inventory]) -> list[str]:
    """Count live rows, and objects that still exist for any row, by token and type."""

    def holds(row: Credentials) -> bool:
        if row.state in (CredentialsState.CREATING, CredentialsState.ACTIVE):
            return True
        inventory = found.get(_place(row))
        return inventory is not None and row.object_name in inventory.objects

    owners = Counter((row.token_id, row.backend, row.type) for row in rows if holds(row))
    return [
        f"token {token}: {count} of {backend} {type_}"
        for (token, backend, type_), count in owners.items()
        if count > 1
    ]
