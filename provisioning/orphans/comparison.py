"""The orphan report: both sides compared, what servers have and what rows promise.

A row is committed before its objects are made and closed after looking that they are gone. So
the servers are asked first and the rows read after: whatever a server had then had a row, and
if no live row names it now, either the row was closed in between (and the object is gone), or
it is an orphan. A second look, in the same order, tells the two apart. The other way round, a
credential made between the two looks is not in the servers' lists: each row that seems to lack
a part is looked at by itself.

A server that does not answer is named, and nothing on it is judged. All servers are asked at
once, each with the engine's own deadlines, so a hung one costs one time-out.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy import ColumnElement, and_, or_, select

from provisioning.backends.base import EngineError, ServerObject, Spec
from provisioning.configuration.metrics import ORPHANS
from provisioning.credentials.specs import spec_of
from provisioning.installation import Installation
from provisioning.orphans.report import (
    LostLogin,
    OrphanReport,
    RowProblem,
    ServerInventory,
    UnnamedObject,
)
from provisioning.state.database import Database, last_number, now_ms
from provisioning.state.enums import (
    EXISTING_CREDENTIALS,
    UNFINISHED_CREDENTIALS,
    CredentialsState,
)
from provisioning.state.events import Action, record_operation
from provisioning.state.models import Credentials, Job, Login

log = structlog.get_logger()

#: Milliseconds after which an unfinished row that nobody works on is stuck, and the failed tries
#: after which one is that somebody works on: some four minutes of them.
STUCK_AFTER, STUCK_TRIES = 15 * 60_000, 9
#: Rows of one server that are looked at one by one; the next report has the others.
LOOKS = 1000
#: Ids in one query.
CHUNK = 500
MOST_THREADS = 32


def build_report(installation: Installation) -> OrphanReport:
    """Compare both sides as they are now."""
    inventories = take_inventories(installation)
    report = OrphanReport(inventories)
    _find_orphans(installation, report)
    if report.orphans:
        _keep_confirmed(installation, report)
    _find_ghosts(installation, report)
    report.inventories += _servers_not_configured(installation)
    report.stuck = _find_stuck(installation.database)
    report.logins = _find_lost_logins(installation.database, report)
    return report


def log_orphans(installation: Installation) -> None:
    """Tell the log, and the audit, what the report has; nothing is repaired."""
    report = build_report(installation)
    for kind, count in report.counts().items():
        ORPHANS.labels(kind).set(count)
    if report.clean:
        log.info("orphans_checked", **report.counts())
        return
    log.warning("orphans_found", **report.counts())
    with installation.database.write() as session:
        record_operation(session, Action.ORPHANS_FOUND, "", detail=dict(report.counts()))


# The servers' side ----------------------------------------------------------------------


def take_inventories(installation: Installation) -> list[ServerInventory]:
    """Ask all servers at once what they have."""
    return _ask(
        installation,
        [
            (backend, server)
            for backend, engine in installation.backends.items()
            for server in engine.servers()
        ],
    )


def _ask(installation: Installation, places: Collection[tuple[str, str]]) -> list[ServerInventory]:
    if not places:
        return []
    with ThreadPoolExecutor(min(len(places), MOST_THREADS)) as executor:
        return list(executor.map(lambda place: _take_inventory(installation, *place), places))


def _take_inventory(installation: Installation, backend: str, server: str) -> ServerInventory:
    try:
        objects = installation.backends[backend].inventory(installation.prefix, server)
    except EngineError as problem:
        return ServerInventory(backend, server, failure=str(problem.args[0]))
    return ServerInventory(backend, server, objects)


# Orphans --------------------------------------------------------------------------------


class Names:
    """The names that live rows have for what they own on the servers of one backend.

    Names are compared without case, as some servers do, and those with an id in them wherever
    the row's server is: two configured servers may be one.
    """

    def __init__(self) -> None:
        self._objects: set[str] = set()
        self._users: set[str] = set()
        self._users_at: set[tuple[str, str]] = set()
        self._grants: set[tuple[str, str]] = set()

    def add(self, server: str, user: str, object_: str) -> None:
        user, object_ = user.lower(), object_.lower()
        self._objects.add(object_)
        self._users.add(user)
        self._users_at.add((server, user))
        self._grants.add((user, object_))

    def has(self, one: ServerObject) -> bool:
        """Return whether a row names the object."""
        user, object_ = (one.user_name or "").lower(), (one.object_name or "").lower()
        if user and object_:
            return (user, object_) in self._grants
        if object_:
            return object_ in self._objects
        shared = one.spec is not None and one.spec.credentials_id == 0
        return (one.server, user) in self._users_at if shared else user in self._users


def _read_names(database: Database) -> dict[str, Names]:
    names: dict[str, Names] = defaultdict(Names)
    query = select(
        Credentials.backend, Credentials.server, Credentials.user_name, Credentials.object_name
    ).where(Credentials.state.in_(EXISTING_CREDENTIALS))
    with database.connect() as connection:
        for backend, *of_row in connection.execute(query):
            names[backend].add(*of_row)
    return names


def _find_orphans(installation: Installation, report: OrphanReport) -> None:
    names = _read_names(installation.database)
    unnamed = [
        UnnamedObject(inventory.backend, one)
        for inventory in report.inventories
        for one in inventory.objects
        if not names[inventory.backend].has(one)
    ]
    numbers = {one.spec.credentials_id for one in unnamed if one.spec is not None}
    others = rows_by_id(installation.database, numbers)
    with installation.database.read() as session:
        last = last_number(session, "credentials")
    for found in unnamed:
        spec = found.spec
        if spec is None:
            report.unknown.append(_because(found, "its name is not of the form of ours"))
            continue
        row = others.get(spec.credentials_id)
        if row is not None and not is_of(row, found.backend, spec):
            why = f"its number is that of credentials {row.id}, which are called otherwise"
            report.unknown.append(_because(found, why))
        elif spec.credentials_id > last:
            report.unknown.append(_because(found, "its number was never given out"))
        else:
            report.orphans.append(found)


def _because(found: UnnamedObject, why: str) -> UnnamedObject:
    return UnnamedObject(found.backend, found.object, why)


def rows_by_id(database: Database, numbers: Iterable[int]) -> dict[int, Credentials]:
    """Return the rows of any state that have these ids."""
    wanted, rows = sorted(numbers), {}
    with database.read() as session:
        for start in range(0, len(wanted), CHUNK):
            query = select(Credentials).where(Credentials.id.in_(wanted[start : start + CHUNK]))
            rows.update({row.id: row for row in session.scalars(query)})
    return rows


def is_of(row: Credentials, backend: str, spec: Spec) -> bool:
    """Return whether a closed row is the one that named what is found on a server."""
    if row.state is not CredentialsState.DROPPED:
        return False
    same_place = (row.backend, row.server) == (backend, spec.server)
    same_object = row.object_name.lower() == spec.object_name.lower()
    return same_place and (same_object or row.user_name.lower() == spec.user_name.lower())


def _keep_confirmed(installation: Installation, report: OrphanReport) -> None:
    """Keep the orphans that a second look finds too, in the same order: servers, then rows."""
    places = {(one.backend, one.object.server) for one in report.orphans}
    second = OrphanReport(_ask(installation, places))
    _find_orphans(installation, second)
    confirmed = {(one.backend, one.object) for one in second.orphans}
    report.orphans = [one for one in report.orphans if (one.backend, one.object) in confirmed]


# Ghosts ---------------------------------------------------------------------------------


def _find_ghosts(installation: Installation, report: OrphanReport) -> None:
    """Find active rows that lack a part; a server that falls silent meanwhile is not judged."""
    with ThreadPoolExecutor(min(len(report.inventories), MOST_THREADS) or 1) as executor:
        looks = executor.map(lambda one: _ghosts_at(installation, one), report.inventories)
        for position, (inventory, ghosts) in enumerate(list(looks)):
            report.inventories[position] = inventory
            report.ghosts += ghosts


def _ghosts_at(
    installation: Installation, inventory: ServerInventory
) -> tuple[ServerInventory, list[RowProblem]]:
    if inventory.failure:
        return inventory, []
    engine, database = installation.backends[inventory.backend], installation.database
    suspects = _suspects(database, inventory, engine.parts)
    try:
        gone = [
            row.id
            for row in rows_by_id(database, suspects).values()
            if row.state is CredentialsState.ACTIVE and not engine.exists(spec_of(row))
        ]
    except EngineError as problem:
        failed = ServerInventory(inventory.backend, inventory.server, failure=str(problem.args[0]))
        return failed, []
    return inventory, [
        RowProblem(row, f"without its {', '.join(sorted(suspects[row.id]))}")
        for row in rows_by_id(database, gone).values()
        # Its owner may have dropped it in between.
        if row.state is CredentialsState.ACTIVE
    ]


def _suspects(
    database: Database, inventory: ServerInventory, parts: Collection[str]
) -> dict[int, Collection[str]]:
    """Return the active rows that lack parts in an inventory, with those parts."""
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in inventory.objects:
        key = (one.user_name or "").lower(), (one.object_name or "").lower()
        kinds[key].add(one.kind)
    query = select(Credentials.id, Credentials.user_name, Credentials.object_name).where(
        Credentials.state == CredentialsState.ACTIVE,
        Credentials.backend == inventory.backend,
        Credentials.server == inventory.server,
    )
    suspects: dict[int, Collection[str]] = {}
    with database.connect() as connection:
        for number, user, object_ in connection.execute(query.order_by(Credentials.id)):
            login, thing = user.lower(), object_.lower()
            has = kinds[login, ""] | kinds["", thing] | kinds[login, thing]
            if not has >= set(parts):
                suspects[number] = set(parts) - has
                if len(suspects) == LOOKS:
                    break
    return suspects


def _servers_not_configured(installation: Installation) -> list[ServerInventory]:
    """Return the servers that live rows name and no configuration does any more."""
    query = select(Credentials.backend, Credentials.server).where(
        Credentials.state.in_(EXISTING_CREDENTIALS)
    )
    with installation.database.connect() as connection:
        places = {(row[0], row[1]) for row in connection.execute(query.distinct())}
    known = {
        (name, server) for name, one in installation.backends.items() for server in one.servers()
    }
    return [ServerInventory(*place, failure="not configured") for place in sorted(places - known)]


# Rows by themselves ---------------------------------------------------------------------


def _find_stuck(database: Database) -> list[RowProblem]:
    """Find unfinished rows that nobody works on, or works on in vain, for long."""
    long_ago = now_ms() - STUCK_AFTER
    waiting = and_(
        Credentials.job_id.is_(None),
        Credentials.not_before <= long_ago,
        Credentials.created_at <= long_ago,
        or_(Credentials.claim_until.is_(None), Credentials.claim_until <= long_ago),
    )
    reasons: dict[str, ColumnElement[bool]] = {
        "its job is over": job_is_over(),
        "nobody works on it": waiting,
        "it is tried in vain": Credentials.attempts >= STUCK_TRIES,
    }
    found: dict[int, RowProblem] = {}
    with database.read() as session:
        for why, condition in reasons.items():
            query = select(Credentials).where(
                Credentials.state.in_(UNFINISHED_CREDENTIALS), condition
            )
            for row in session.scalars(query.order_by(Credentials.id)):
                reason = f"{why}: {row.failure}" if row.failure else why
                found.setdefault(row.id, RowProblem(row, reason))
    return list(found.values())


def job_is_over() -> ColumnElement[bool]:
    """Return the condition for rows that wait for a job which does nothing any more."""
    unfinished = select(Job.id).where(Job.id == Credentials.job_id, Job.ended_at.is_(None))
    return and_(Credentials.job_id.is_not(None), ~unfinished.exists())


def _find_lost_logins(database: Database, report: OrphanReport) -> list[LostLogin]:
    """Find rows of shared logins that no credential uses, or whose login is missing."""
    there = {
        (inventory.server, one.name)
        for inventory in report.inventories
        for one in inventory.objects
        if one.kind == "login"
    }
    # Looked at one by one already, so a login made since is not among them.
    of_ghosts = {ghost.row.login_id for ghost in report.ghosts}
    used = select(Credentials.id).where(Credentials.login_id == Login.id).exists()
    found = []
    with database.read() as session:
        for login, is_used in session.execute(select(Login, used).order_by(Login.id)):
            if not is_used:
                found.append(LostLogin(login, "no credential uses it", False))
            elif login.id in of_ghosts and (login.server, login.user_name) not in there:
                found.append(LostLogin(login, "its login is missing", True))
    return found
