"""The list of a project's jobs (contract 9.3)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    SQLColumnExpression,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.orm import defer

from provisioning.jobs.recording import COMPONENT
from provisioning.jobs.search.conditions import condition_of
from provisioning.jobs.search.fields import (
    ChoiceField,
    Condition,
    Field,
    MomentField,
    NumberField,
    ParameterField,
    TextField,
)
from provisioning.jobs.search.language import Node
from provisioning.state.database import Database
from provisioning.state.enums import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.state.models import Job

#: No request's parameters are nested deeper.
_PARAMETER = re.compile(r"params\.([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9})")
#: Characters of parameters, results and steps in one batch of a list; ordinary jobs have some 500.
BATCH_BYTES = 128 * 1024
#: The columns of a record without a bound of their own.
_LENGTH = sum(
    (func.length(cast(column, Text)) for column in (Job.params, Job.result, Job.progress)),
    start=literal(0),
).label("length")
#: What no record shows. The request may be megabytes of script.
_HIDDEN = (defer(Job.request, raiseload=True), defer(Job.failure, raiseload=True))


@dataclass(frozen=True)
class JobSearch:
    """Which jobs are asked for; the conditions are all to hold."""

    limit: int
    offset: int = 0
    #: Only jobs with a smaller id: the next page begins where the last one ended.
    before: int | None = None
    #: Seconds since 1970, both included.
    since: int | None = None
    until: int | None = None
    conditions: tuple[Node, ...] = ()


class JobFields:
    """The fields of one project's jobs, by the names that their records have (9.1).

    ``result`` is not among them, nor what is in arrays.
    """

    def __init__(self, project_id: str, url_start: str) -> None:
        """``url_start`` is what a job's address begins with; its id follows."""
        self._fields = _job_fields(project_id, url_start)

    def __call__(self, name: str) -> Field | None:
        """Return a field; None when no job has it."""
        parameter = _PARAMETER.fullmatch(name)
        if parameter:
            return ParameterField(Job.__table__.c.params, tuple(parameter[1].split(".")))
        return self._fields.get(name)


def list_jobs(
    database: Database, project_id: str, url_start: str, search: JobSearch
) -> Iterator[Sequence[Job]]:
    """Yield a project's jobs, newest first, without what no record shows, in batches.

    A batch is read when it is asked for; it holds some ``BATCH_BYTES``, so that a list of long
    records never is in memory as a whole. ``url_start`` is what a job's address begins with.
    Raises ``QueryInvalid``.
    """
    # The page is chosen by ids alone, which are all in the index: what lies before the offset
    # is not read, and PostgreSQL does not look for the jobs among those of other projects.
    page = (
        select(Job.id)
        .where(Job.project_id == project_id, *_conditions(project_id, url_start, search))
        .order_by(Job.id.desc())
        .limit(search.limit)
        .offset(search.offset)
        .subquery("page")
    )
    query = select(Job.id, _LENGTH).join(page, page.c.id == Job.id).order_by(Job.id.desc())
    # Every query is another statement: kept compiled, they would only fill the memory.
    options = {"compiled_cache": None} if search.conditions else {}
    with database.read() as session:
        found = session.execute(query, execution_options=options).all()
    for ids in _batches((row.id, row.length) for row in found):
        query_of_batch = select(Job).where(Job.id.in_(ids)).order_by(Job.id.desc())
        with database.read() as session:
            yield session.scalars(query_of_batch.options(*_HIDDEN)).all()


def _batches(sized: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    batch: list[int] = []
    room = BATCH_BYTES
    for id_, length in sized:
        if batch and length > room:
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(id_)
        room -= length
    if batch:
        yield batch


def _conditions(project_id: str, url_start: str, search: JobSearch) -> list[Condition]:
    found: list[Condition] = []
    if search.before is not None:
        found.append(Job.id < search.before)
    if search.since is not None or search.until is not None:
        found.append(MomentField(Job.created_at).within(search.since, search.until))
    if search.conditions:
        fields = JobFields(project_id, url_start)
        found += (condition_of(node, fields) for node in search.conditions)
    return found


def _job_fields(project_id: str, url_start: str) -> dict[str, Field]:
    finished = Job.status.not_in(UNFINISHED_JOBS)
    waited = _seconds_between(Job.created_at, Job.started_at)
    paused = and_(~finished, Job.claim_until.is_(None), Job.not_before != 0)
    return {
        "id": NumberField(Job.id),
        "runId": TextField(Job.run_id),
        "lockName": _constant(f"{COMPONENT}-{project_id}"),
        "project.id": _project_number(project_id),
        "project.name": TextField(Job.project_name),
        "token.id": TextField(Job.token_id),
        "token.description": TextField(Job.token_description),
        "component": _constant(COMPONENT),
        "command": ChoiceField({str(name): Job.command == name for name in JobCommand}),
        "status": ChoiceField({str(name): Job.status == name for name in JobStatus}),
        "process.host": TextField(Job.process_host),
        "process.pid": NumberField(Job.process_pid),
        "createdTime": MomentField(Job.created_at),
        "startTime": MomentField(Job.started_at),
        "endTime": MomentField(Job.ended_at),
        "durationSeconds": NumberField(_seconds_between(Job.started_at, Job.ended_at)),
        "waitSeconds": NumberField(case((Job.status != JobStatus.TERMINATED, waited))),
        "nestingLevel": NumberField(
            func.length(Job.run_id) - func.length(func.replace(Job.run_id, ".", ""))
        ),
        "error": TextField(case((finished, Job.error))),
        "errorNote": TextField(Job.error_note),
        "isFinished": ChoiceField({"true": finished, "false": Job.status.in_(UNFINISHED_JOBS)}),
        "attempts": NumberField(case((Job.attempts > 1, Job.attempts))),
        "notBefore": MomentField(case((paused, Job.not_before))),
        "_type": _constant("jobs"),
        "url": TextField(literal(url_start).concat(cast(Job.id, String))),
    }


def _constant(text: str) -> Field:
    return ChoiceField({text: true()})


def _project_number(project_id: str) -> Field:
    """Return the project's id as the record prints it: as a number, if it is one."""
    if project_id.isascii() and project_id.isdigit() and len(project_id) <= 18:
        return NumberField(literal(int(project_id), BigInteger))
    return _constant(project_id)


def _seconds_between(
    start: SQLColumnExpression[Any], end: SQLColumnExpression[Any]
) -> SQLColumnExpression[Any]:
    seconds = end // 1000 - start // 1000
    return case((seconds < 0, 0), else_=seconds)
