"""Batches of expired credentials, on each state database."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sqlalchemy import delete, select, update

from provisioning.backends.base import EngineRefused, EngineUnavailable, ServerObject, Spec
from provisioning.background import expiry
from provisioning.background.expiry import LARGEST_BATCH, drain
from provisioning.background.sweep import FIRST_BATCH, sweep
from provisioning.state.claims import Lease
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState, JobStatus
from provisioning.state.events import events_of_job
from provisioning.state.models import Credentials, Job
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.waiting_jobs import Queue

FIRST = 700_001
HOUR = 3_600_000


class Engine:
    """Stands in for a server."""

    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.answers = True
        self.act: Callable[[Spec], None] = lambda spec: None

    def servers(self) -> list[str]:
        return ["default", "idle", "other"]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return []

    def exists(self, spec: Spec) -> bool:
        if not self.answers:
            raise EngineUnavailable("server default: away")
        return True

    def drop(self, spec: Spec, lease: Lease, access_ended: object = None) -> None:
        lease.check()
        self.act(spec)
        self.dropped.append(spec.credentials_id)

    def close(self) -> None:
        """There is nothing to close."""


class BulkEngine(Engine):
    """Where four at a time go together, unless one of them does not."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[int]] = []

    def drop_many(self, removals: Sequence[tuple[Spec, Lease]]) -> Iterator[list[Spec]]:
        for first in range(0, len(removals), 4):
            specs = [spec for spec, _ in removals[first : first + 4]]
            for spec in specs:
                self.act(spec)
            self.groups.append([spec.credentials_id for spec in specs])
            yield specs


@pytest.fixture
def engine(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Engine:
    with queue.installation.database.write() as session:
        session.execute(delete(Credentials))
    engine = Engine()
    monkeypatch.setitem(queue.installation.backends, "mysql", engine)
    return engine


def add(queue: Queue, amount: int, *, ago: int = 1000, server: str = "default") -> list[int]:
    """Add active credentials that expired so many milliseconds ago."""
    with queue.installation.database.write() as session:
        now = read_clock(session)
        first = session.scalars(select(Credentials.id).order_by(Credentials.id.desc())).first()
        numbers = list(range((first or FIRST) + 1, (first or FIRST) + 1 + amount))
        session.add_all(
            Credentials(
                id=number,
                backend="mysql",
                type="transformations",
                state=CredentialsState.ACTIVE,
                slot=f"{number}:mysql:transformations",
                project_id="1",
                project_name="",
                token_id=str(number),
                token_description="",
                server=server,
                user_name="u",
                object_name="o",
                secret="",
                created_at=1,
                touched_at=1000,
                expires_at=now - ago,
            )
            for number in numbers
        )
    return numbers


def rows(queue: Queue) -> dict[int, Credentials]:
    with queue.installation.database.read() as session:
        return {row.id: row for row in session.scalars(select(Credentials))}


def jobs(queue: Queue) -> list[Job]:
    with queue.installation.database.read() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


@pytest.fixture
def any_machine_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch take as long as this machine needs, and count as a fast one."""
    monkeypatch.setattr(expiry, "BATCH_SECONDS", 600)


@pytest.mark.usefixtures("any_machine_is_fast")
def test_a_batch_is_removed_who_waits_longest_first(queue: Queue, engine: Engine) -> None:
    later, first = add(queue, 3), add(queue, 4, ago=HOUR)
    living = add(queue, 2, ago=-HOUR)
    assert drain(queue.installation, "mysql", "default", 4) == 8
    found = rows(queue)
    assert sorted(engine.dropped) == first
    assert {found[number].state for number in first} == {CredentialsState.DROPPED}
    assert {found[number].state for number in later} == {CredentialsState.ACTIVE}
    ended = jobs(queue)
    assert [job.credentials_id for job in ended] == first
    assert {(job.status, job.attempts, job.claim_until) for job in ended} == {
        (JobStatus.SUCCESS, 1, None)
    }
    drain(queue.installation, "mysql", "default", 4)
    assert drain(queue.installation, "mysql", "default", 8) is None
    assert sorted(engine.dropped) == sorted([*first, *later])
    assert {rows(queue)[number].state for number in living} == {CredentialsState.ACTIVE}


def test_its_audit_is_that_of_any_delete(queue: Queue, engine: Engine) -> None:
    add(queue, 2)
    drain(queue.installation, "mysql", "default", 2)
    for job in jobs(queue):
        actions = [event.action for event in events_of_job(queue.installation.database, job.id)]
        assert actions == [
            "job.accepted",
            "credentials.expired",
            "job.started",
            "credentials.dropped",
            "job.succeeded",
        ]


def test_a_sweep_names_the_servers_with_expired_rows(queue: Queue, engine: Engine) -> None:
    add(queue, 2), add(queue, 1, ago=-HOUR, server="idle"), add(queue, 1, server="other")
    expired = sweep(queue.installation).expired
    assert sorted(expired) == [("mysql", "default"), ("mysql", "other")]


def test_nothing_is_recorded_while_the_server_is_away(queue: Queue, engine: Engine) -> None:
    (number,) = add(queue, 1)
    engine.answers = False
    assert drain(queue.installation, "mysql", "default", 4) is None
    assert rows(queue)[number].state is CredentialsState.ACTIVE and jobs(queue) == []
    engine.answers = True
    drain(queue.installation, "mysql", "default", 4)
    assert engine.dropped == [number]


def test_one_that_fails_is_tried_again_and_the_rest_go_on(queue: Queue, engine: Engine) -> None:
    first, second, third, last = (add(queue, 1, ago=ago)[0] for ago in (9000, 8000, 7000, 6000))

    def refuse(spec: Spec) -> None:
        if spec.credentials_id == second:
            raise EngineRefused("server default: DROP USER: error 1227")

    engine.act = refuse
    assert drain(queue.installation, "mysql", "default", 4) is None
    ended, failed, *handed_back = jobs(queue)
    assert (ended.credentials_id, ended.status) == (first, JobStatus.SUCCESS)
    assert failed.status is JobStatus.PROCESSING and failed.claim_until is None
    assert failed.failure == "server default: DROP USER: error 1227" and failed.not_before > 0
    assert [job.credentials_id for job in handed_back] == [third, last]
    # A worker takes them up at the next message.
    for job in handed_back:
        claimed = queue.claim(job.id)
        assert claimed is not None and claimed.row_lease is not None
    assert queue.claim(failed.id) is None


def test_what_can_go_together_is_dropped_once(
    queue: Queue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = BulkEngine()
    monkeypatch.setitem(queue.installation.backends, "mysql", bulk)
    numbers = add(queue, 6)
    drain(queue.installation, "mysql", "default", 6)
    assert sorted(len(group) for group in bulk.groups) == [2, 4] and bulk.dropped == []
    assert sorted(number for group in bulk.groups for number in group) == numbers
    assert {row.state for row in rows(queue).values()} == {CredentialsState.DROPPED}
    assert {job.status for job in jobs(queue)} == {JobStatus.SUCCESS}


def test_one_that_fails_is_found_among_those_that_go_together(
    queue: Queue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = BulkEngine()
    monkeypatch.setitem(queue.installation.backends, "mysql", bulk)
    numbers = [add(queue, 1, ago=ago * 1000)[0] for ago in range(20, 10, -1)]

    def refuse(spec: Spec) -> None:
        if spec.credentials_id == numbers[6]:
            raise EngineRefused("server default: DROP USER: error 1227")

    bulk.act = refuse
    assert drain(queue.installation, "mysql", "default", 10) is None
    assert bulk.groups == [numbers[:4]] and bulk.dropped == numbers[4:6]
    found = [job.status for job in jobs(queue)]
    assert found == [JobStatus.SUCCESS] * 6 + [JobStatus.PROCESSING] * 4
    assert [job.failure is not None for job in jobs(queue)].index(True) == 6


def test_one_that_was_extended_stays(queue: Queue, engine: Engine) -> None:
    going, extended = add(queue, 2)
    with queue.installation.database.write() as session:
        statement = update(Credentials).where(Credentials.id == extended)
        session.execute(statement.values(expires_at=now_ms() + HOUR))
    drain(queue.installation, "mysql", "default", 4)
    assert engine.dropped == [going]


def test_what_another_job_works_on_waits(queue: Queue, engine: Engine) -> None:
    (number,) = add(queue, 1)
    (kill,) = queue.add("1", slot=f"{number}:mysql:transformations")
    drain(queue.installation, "mysql", "default", 4)
    assert engine.dropped == []
    queue.change(kill, status=JobStatus.SUCCESS)
    drain(queue.installation, "mysql", "default", 4)
    assert engine.dropped == [number]


def test_a_batch_that_was_taken_over_changes_nothing_of_it(queue: Queue, engine: Engine) -> None:
    lost, kept = (add(queue, 1, ago=ago)[0] for ago in (9000, 8000))

    def lose(spec: Spec) -> None:
        if spec.credentials_id == lost:
            with queue.installation.database.write() as session:
                statement = update(Job).where(Job.credentials_id == lost)
                session.execute(statement.values(claim_token=Job.claim_token + 1))

    engine.act = lose
    drain(queue.installation, "mysql", "default", 4)
    found = {job.credentials_id: job.status for job in jobs(queue)}
    assert found == {lost: JobStatus.PROCESSING, kept: JobStatus.SUCCESS}
    assert rows(queue)[lost].state is CredentialsState.DROPPING


@pytest.mark.usefixtures("any_machine_is_fast")
def test_batches_grow_on_a_fast_server_and_shrink_on_a_slow_one(
    queue: Queue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, 2 * LARGEST_BATCH)
    assert drain(queue.installation, "mysql", "default", FIRST_BATCH) == 2 * FIRST_BATCH
    monkeypatch.setattr(expiry, "BATCH_SECONDS", 0.5)
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    engine.act = lambda spec: None
    assert drain(queue.installation, "mysql", "default", 8) == 1


def test_several_at_once_remove_each_once(queue: Queue, engine: Engine, state_url: str) -> None:
    numbers = add(queue, 60)
    others = [Queue(state_url) for _ in range(3)]
    for other in others:
        other.installation.backends["mysql"] = engine  # type: ignore[assignment]

    def go_on(other: Queue) -> None:
        while drain(other.installation, "mysql", "default", 5) is not None:
            pass

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(go_on, other) for other in others * 2]:
            done.result()
    assert sorted(engine.dropped) == numbers
    assert sorted(job.credentials_id or 0 for job in jobs(queue)) == numbers
    for other in others:
        other.installation.backends.clear()
        other.installation.close()


def test_no_more_batches_than_lanes(queue: Queue, engine: Engine) -> None:
    """Half of the four connections are left to requests that people wait for."""
    add(queue, 30)
    turned_away = Event()
    engine.act = lambda spec: require(turned_away.wait(DEADLINE))
    with ThreadPoolExecutor(8) as pool:
        drains = [pool.submit(drain, queue.installation, "mysql", "default", 4) for _ in range(8)]
        wait_until(lambda: sum(one.done() for one in drains) == 6, what="six returns")
        turned_away.set()
    assert len(engine.dropped) == 8


def require(true: bool) -> None:
    assert true
