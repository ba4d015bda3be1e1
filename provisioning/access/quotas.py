"""Quotas: what a project and each of its tokens have at once, held to their limits.

What counts is slots: one that holds a live credential, and one for which a job that creates a
sandbox waits or works. So a request for what is there, or on its way, is never refused, and
what fails gives its place back by itself. What is being removed does not count: a
delete makes room at once, however long the removal takes.

Creations of a project with limits go one by one between the count and their record, by the lock
of the project's row; a project without limits takes no lock and counts nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Subquery, bindparam, case, func, literal, select, union_all
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Principal
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.config import Config
from provisioning.configuration.quota_limits import (
    LIMITS,
    PROJECT,
    TOKEN,
    WORDS,
    Limit,
    limits_in_force,
    told_limits,
)
from provisioning.state.conditions import is_live
from provisioning.state.database import Database, insert_if_absent
from provisioning.state.enums import UNFINISHED_JOBS, JobCommand
from provisioning.state.events import Action, record_operation
from provisioning.state.models import Credentials, Job, Quota

log = structlog.get_logger()

#: Built once, and of plain columns, as what counts is: creations of projects with limits run it.
_LOCK = (
    select(Quota.__table__.c.limits)
    .where(Quota.__table__.c.project_id == bindparam("project"))
    .with_for_update()
)
#: Above every job's id.
NO_JOB = 2**63 - 1
SCOPES = (PROJECT, TOKEN)


@dataclass(frozen=True)
class Reservation:
    """The transaction in which to take a slot, and what its owner is to know of soft limits."""

    session: Session
    warning: str | None = None
    #: Whether there is room for one more, and not just one of the slots that is taken already.
    is_new: bool = True


class Quotas:
    """Lets callers take slots as long as the limits of their projects allow it."""

    def __init__(self, database: Database, config: Config) -> None:
        self._database, self._config = database, config
        #: Projects that have a row to lock.
        self._known: set[str] = set()

    @contextmanager
    def reserving(
        self,
        principal: Principal,
        run_id: str,
        backend: str,
        slots: Collection[str],
        job_id: int = NO_JOB,
    ) -> Iterator["Reservation"]:
        """Yield a write transaction in which to take one of the slots.

        Raises ``QuotaExceeded`` when that would pass a hard limit, unless one of the slots is
        taken already. A job names itself by ``job_id``: the later ones have to mind it, and
        not it them.
        """
        limits = limits_in_force(self._config.quotas, principal.limits)
        if not limits:
            with self._database.write() as session:
                yield Reservation(session)
            return
        self._know(principal.project_id)
        with self._database.write() as session:
            self._lock(session, principal)
            parameters = {
                "project": principal.project_id,
                "token": principal.token_id,
                "slots": list(slots),
                "job": job_id,
            }
            rows = session.connection().execute(_USED, parameters).all()
            if any(row.wanted for row in rows):
                yield Reservation(session, is_new=False)
                return
            crossed = self._require_room(limits, self._used(rows), backend)
            yield Reservation(session, self._warn(session, principal, run_id, crossed))

    def _know(self, project_id: str) -> None:
        """See that the project has a row, in a transaction of its own: making one can fail."""
        if project_id in self._known:
            return
        insert_if_absent(
            self._database,
            select(Quota.project_id).where(Quota.project_id == project_id),
            lambda _: Quota(project_id=project_id, limits={}),
        )
        self._known.add(project_id)

    def _lock(self, session: Session, principal: Principal) -> None:
        """Keep other creations of the project waiting, and remember its limits for operators."""
        project = {"project": principal.project_id}
        row = session.connection().execute(_LOCK, project).first()
        if row is None:
            # The state is another one than at the last look: a repeat makes the row.
            self._known.discard(principal.project_id)
            raise errors.StateUnavailable(cause="it was replaced")
        told = told_limits(principal.limits)
        if row.limits != told:
            session.get_one(Quota, principal.project_id).limits = told

    def _used(self, rows: Collection[Any]) -> dict[str, Counter[str]]:
        used: dict[str, Counter[str]] = {scope: Counter() for scope in SCOPES}
        for row in rows:
            used[PROJECT].update(weigh(self._config, row.backend, row.server, row.amount))
            used[TOKEN].update(weigh(self._config, row.backend, row.server, int(row.own)))
        return used

    def _require_room(
        self, limits: Mapping[str, int], used: Mapping[str, Counter[str]], backend: str
    ) -> list["_PassedLimit"]:
        """Return the soft limits that one more passes; raise ``QuotaExceeded`` for a hard one."""
        needed = weigh(self._config, backend, "", 1)
        found = []
        for name, limit in LIMITS.items():
            need = needed.get(limit.what, 0)
            before = used[limit.scope][limit.what]
            if name not in limits or not need or before + need <= limits[name]:
                continue
            if not limit.soft:
                raise errors.QuotaExceeded(
                    limit.scope, WORDS[limit.what], limits[name], before, need
                )
            found.append(_PassedLimit(name, limits[name], before, before + need))
        return found

    def _warn(
        self, session: Session, principal: Principal, run_id: str, crossed: list["_PassedLimit"]
    ) -> str | None:
        """Return what to tell the caller; the event is for the one that passed from below."""
        for one in crossed:
            if one.before <= one.limit:
                detail = {"limit": one.name, "value": one.limit, "used": one.after}
                record_operation(
                    session,
                    Action.SOFT_LIMIT,
                    principal.token_id,
                    project_id=principal.project_id,
                    run_id=run_id,
                    detail=detail,
                )
                log.warning("soft_limit_passed", project=principal.project_id, **detail)
        return " ".join(map(str, crossed)) or None


@dataclass(frozen=True)
class _PassedLimit:
    """A soft limit that a creation passes, or that was passed before."""

    name: str
    limit: int
    before: int
    after: int

    def __str__(self) -> str:
        kind = LIMITS[self.name]
        return (
            f"The {kind.scope} uses {self.after} {WORDS[kind.what]}, above its soft limit of "
            f"{self.limit}."
        )


def weigh(config: Config, backend: str, server: str, amount: int) -> dict[str, int]:
    """Return what so many credentials of a server use of each thing that is limited.

    A sandbox that has no server yet counts with the memory of the largest.
    """
    if not BACKENDS[backend].asynchronous:
        return {"credentials": amount, f"credentials.{backend}": amount}
    memory = {one.name: one.memory_mb for one in config.servers.get(backend, ())}
    memory_mb = memory.get(server, max(memory.values(), default=0))
    return {"credentials": amount, "containers": amount, "memoryMb": amount * memory_mb}


# Counting -------------------------------------------------------------------------------


def _taken(*conditions: Any, of_jobs: tuple[Any, ...] = ()) -> Subquery:
    """Return the query of the slots that are taken, each once, with whose and where they are."""
    row, holder = (Credentials.__table__.alias().c for _ in range(2))
    job = Job.__table__.c
    held = select(row.project_id, row.token_id, row.slot, row.backend, row.server)
    ordered = select(
        job.project_id, job.token_id, job.slot, job.backend, literal("").label("server")
    ).where(
        job.status.in_(UNFINISHED_JOBS),
        job.command == JobCommand.CREATE,
        # From then on the row counts.
        job.credentials_id.is_(None),
        ~select(holder.id).where(holder.slot == job.slot, is_live(holder)).exists(),
        *of_jobs,
    )
    for column, value in conditions:
        held = held.where(row[column] == value)
        ordered = ordered.where(job[column] == value)
    return union_all(held.where(is_live(row)), ordered.distinct()).subquery()


def _count_of_project() -> Any:
    taken = _taken(("project_id", bindparam("project")), of_jobs=(Job.id < bindparam("job"),))
    own = case((taken.c.token_id == bindparam("token"), 1), else_=0)
    wanted = case((taken.c.slot.in_(bindparam("slots", expanding=True)), 1), else_=0)
    return select(
        taken.c.backend,
        taken.c.server,
        func.count().label("amount"),
        func.sum(own).label("own"),
        func.max(wanted).label("wanted"),
    ).group_by(taken.c.backend, taken.c.server)


#: Built once: every creation of a project with limits runs it.
_USED = _count_of_project()


# For operators --------------------------------------------------------------------------


@dataclass(frozen=True)
class QuotaUse:
    """What a project, or one of its tokens, uses of one thing; None is without a limit."""

    project_id: str
    token_id: str | None
    what: str
    used: int
    soft: int | None
    hard: int | None


def list_uses(database: Database, config: Config, project_id: str | None = None) -> list[QuotaUse]:
    """Return what projects use against the limits in force at their last creation.

    Tokens are shown where a limit holds for each.
    """
    conditions = () if project_id is None else (("project_id", project_id),)
    taken = _taken(*conditions)
    place = (taken.c.project_id, taken.c.token_id, taken.c.backend, taken.c.server)
    with database.read() as session:
        rows = session.execute(select(*place, func.count().label("amount")).group_by(*place)).all()
        told = {row.project_id: row.limits for row in session.scalars(select(Quota))}
    used: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for row in rows:
        weight = weigh(config, row.backend, row.server, row.amount)
        used[row.project_id, None].update(weight)
        used[row.project_id, row.token_id].update(weight)
    found: list[QuotaUse] = []
    for (project, token), counts in sorted(used.items(), key=lambda item: _order(*item[0])):
        limits = limits_in_force(config.quotas, told.get(project, {}))
        found += _uses_of(project, token, counts, limits)
    return found


def _order(project_id: str, token_id: str | None) -> tuple[str, str]:
    return project_id, token_id or ""


def _uses_of(
    project_id: str, token_id: str | None, counts: Counter[str], limits: Mapping[str, int]
) -> Iterator[QuotaUse]:
    scope = PROJECT if token_id is None else TOKEN
    for what in WORDS:
        soft, hard = (limits.get(Limit(scope, what, kind).name) for kind in (True, False))
        if soft or hard or (token_id is None and counts[what]):
            yield QuotaUse(project_id, token_id, what, counts[what], soft, hard)
