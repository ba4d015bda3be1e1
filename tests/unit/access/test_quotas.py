"""What a project has at once is held to its limits, in each kind of state database."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from threading import Barrier
from typing import Any, cast

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select, update

from provisioning import errors
from provisioning.access.quotas import Quotas
from provisioning.access.tokens import Caller, Principal
from provisioning.backends.base import Backend, Owner, Placement, Spec
from provisioning.backends.servers.placement import ServerLoads
from provisioning.cli.main import cli
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import DockerServer
from provisioning.credentials.creation import get_or_create
from provisioning.state.database import Database, now_ms
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Event, Job, Quota
from tests.support.waiting_jobs import Queue

ACTIVE, DROPPING = CredentialsState.ACTIVE, CredentialsState.DROPPING
_numbers = count(1_000_000)


class Project:
    """A project whose callers take slots, over a state database of its own."""

    def __init__(self, queue: Queue, **limits: int) -> None:
        self.queue = queue
        self.database: Database = queue.installation.database
        servers = (
            DockerServer(name="one", memory_mb=1000),
            DockerServer(name="two", memory_mb=400),
        )
        self.config = replace(queue.installation.config, servers={"docker": servers})
        self.quotas = Quotas(self.database, self.config)
        self.limits = {f"provisioning.{name}": value for name, value in limits.items()}

    def principal(self, token: str) -> Principal:
        return Principal(token, "", "70", "P", limits=self.limits)

    def take(
        self, token: str = "1", backend: str = "mysql", server: str = "one", **values: Any
    ) -> str | None:
        """Record a credential as creations do, and return the warning."""
        slot = f"{token}:{backend}:sandbox"
        reserving = self.quotas.reserving(self.principal(token), "run.1", backend, [slot])
        with reserving as room:
            room.session.add(row_of(token, backend, server, slot, **values))
        return room.warning

    def order(self, token: str) -> str | None:
        """Record a job that creates a sandbox."""
        slot = f"{token}:docker:jupyter"
        reserving = self.quotas.reserving(self.principal(token), "run.1", "docker", [slot])
        with reserving as room:
            room.session.add(job_of(token, slot))
        return room.warning

    def change(self, token: str, **values: Any) -> None:
        with self.database.write() as session:
            change = update(Credentials).where(Credentials.token_id == token)
            session.execute(change.values(**values))

    def refusal(self, *arguments: str) -> str:
        with pytest.raises(errors.QuotaExceeded) as caught:
            self.take(*arguments)
        return caught.value.message


def row_of(token: str, backend: str, server: str, slot: str, **values: Any) -> Credentials:
    return Credentials(
        **{
            "id": next(_numbers),
            "backend": backend,
            "type": "sandbox",
            "state": ACTIVE,
            "slot": slot,
            "project_id": "70",
            "project_name": "P",
            "token_id": token,
            "token_description": "",
            "server": server,
            "user_name": "u",
            "object_name": "o",
            "secret": "",
            "created_at": 1,
            "touched_at": 1000,
            **values,
        }
    )


def job_of(token: str, slot: str) -> Job:
    number = next(_numbers)
    return Job(
        id=number,
        run_id=str(number),
        command=JobCommand.CREATE,
        status=JobStatus.WAITING,
        backend="docker",
        params={},
        result={},
        slot=slot,
        project_id="70",
        project_name="P",
        token_id=token,
        token_description="",
        created_at=1,
    )


@pytest.fixture
def clean(queue: Queue) -> Iterator[Queue]:
    def clear() -> None:
        with queue.installation.database.write() as session:
            for model in (Credentials, Job, Event, Quota):
                session.execute(delete(model))

    clear()
    yield queue
    clear()


# Counting -------------------------------------------------------------------------------


def test_a_limit_is_reached_and_what_is_there_is_not_refused(clean: Queue) -> None:
    project = Project(clean, credentials=2)
    project.take("1")
    project.take("2", "snowflake")
    message = "The project's limit of 2 live credentials is reached: 2 used."
    assert project.refusal("3") == message
    # The slot is taken: a request for it gets what is in it, or waits for it.
    reserving = project.quotas.reserving(project.principal("1"), "", "mysql", ["1:mysql:sandbox"])
    with reserving as room:
        assert not room.is_new and room.warning is None


@pytest.mark.parametrize(
    "gone",
    [
        {"state": DROPPING},
        {"state": DROPPING, "slot": None},
        {"state": CredentialsState.DROPPED, "slot": None},
        {"expires_at": 1},
    ],
)
def test_what_is_gone_for_its_owner_does_not_count(clean: Queue, gone: dict[str, Any]) -> None:
    project = Project(clean, credentials=1)
    project.take("1", state=CredentialsState.CREATING)
    project.refusal("2")
    project.change("1", **{"state": ACTIVE, **gone})
    project.take("2", expires_at=now_ms() + 60_000)
    project.refusal("3")


def test_backends_tokens_containers_and_their_memory_have_limits_of_their_own(
    clean: Queue,
) -> None:
    limits = {"credentials.mysql": 2, "token.credentials": 3, "containers": 2, "memoryMb": 2000}
    project = Project(clean, **limits)
    project.take("1"), project.take("2")
    assert (
        project.refusal("3")
        == "The project's limit of 2 live mysql credentials is reached: 2 used."
    )
    project.take("1", "snowflake"), project.take("1", "postgresql")
    message = "The token's limit of 3 live credentials is reached: 3 used."
    assert project.refusal("1", "redshift-workspace") == message
    project.take("3", "docker", "one"), project.take("4", "docker", "two")
    message = "The project's limit of 2 live containers is reached: 2 used."
    assert project.refusal("5", "docker") == message
    project.limits["provisioning.containers"] = 3
    message = "The project's limit of 2000 MB of containers' memory is reached: 1400 used"
    assert project.refusal("5", "docker") == f"{message}, 1000 more needed."


def test_sandboxes_that_are_on_their_way_count_once(clean: Queue) -> None:
    project = Project(clean, containers=2)
    project.order("1"), project.order("1"), project.order("2")
    with pytest.raises(errors.QuotaExceeded):
        project.order("3")
    with project.database.write() as session:
        # The first job has recorded what it makes, the second will return it.
        first = session.scalars(select(Job).order_by(Job.id).limit(1)).one()
        session.add(row_of("1", "docker", "one", first.slot))
        first.credentials_id, first.status = 1, JobStatus.PROCESSING
    with pytest.raises(errors.QuotaExceeded):
        project.order("3")
    with project.database.write() as session:
        session.execute(update(Job).where(Job.token_id == "2").values(status=JobStatus.ERROR))
    project.order("3")


def test_other_projects_do_not_count(clean: Queue) -> None:
    project = Project(clean, credentials=1)
    with project.database.write() as session:
        session.add(row_of("9", "mysql", "one", "9:mysql:sandbox", project_id="71"))
    project.take("1")


def test_without_limits_nothing_is_looked_at(clean: Queue) -> None:
    project = Project(clean)
    assert project.take("1") is None
    with project.database.read() as session:
        assert session.get(Quota, "70") is None


# Soft limits ----------------------------------------------------------------------------


def test_a_soft_limit_warns_each_time_and_is_told_of_when_it_is_passed(clean: Queue) -> None:
    project = Project(
        clean, **{"credentials.soft": 1, "credentials": 4, "token.credentials.soft": 1}
    )
    assert project.take("1") is None
    warning = "The project uses {} live credentials, above its soft limit of 1."
    assert project.take("2") == warning.format(2)
    assert project.take("3") == warning.format(3)
    for dropped in ("2", "3"):
        project.change(dropped, state=DROPPING)
    own = "The token uses 2 live credentials, above its soft limit of 1."
    assert project.take("1", "snowflake") == f"{warning.format(2)} {own}"
    passed = {"limit": "provisioning.credentials.soft", "value": 1, "used": 2}
    events = newest_events(project.database, 10, action="quota.soft_limit")
    assert [event.detail for event in events] == [
        passed, passed, {**passed, "limit": "provisioning.token.credentials.soft"},
    ]  # fmt: skip
    assert {(event.project_id, event.run_id) for event in events} == {("70", "run.1")}


# Races ----------------------------------------------------------------------------------


def test_of_fifty_creations_at_once_as_many_as_the_limit_come_through(clean: Queue) -> None:
    """By different tokens, from two processes; what fails gives its place back."""
    project = Project(clean, **{"credentials": 10, "credentials.soft": 4})
    other = Queue(clean.installation.config.state_url.reveal())
    crowds = [project, Project(other, **{"credentials": 10, "credentials.soft": 4})]
    for round_ in range(3):
        barrier = Barrier(50)

        def create(number: int, round_: int = round_, barrier: Barrier = barrier) -> bool:
            barrier.wait()
            try:
                crowds[number % 2].take(f"{round_}-{number}")
            except errors.QuotaExceeded:
                return False
            return True

        with ThreadPoolExecutor(50) as pool:
            results = Counter(pool.map(create, range(50)))
        assert results == {True: 10, False: 40}
        with project.database.write() as session:
            session.execute(update(Credentials).values(state=DROPPING, slot=None))
    other.installation.close()
    # Each crowd passed the soft limit once.
    assert len(newest_events(project.database, 100, action="quota.soft_limit")) == 3


def test_a_state_without_the_projects_row_is_met_once(clean: Queue) -> None:
    project = Project(clean, credentials=1)
    project.take("1")
    with project.database.write() as session:
        session.execute(delete(Quota))
    with pytest.raises(errors.StateUnavailable):
        project.take("2")
    project.refusal("2")


class SmallServer:
    """Stands in for MySQL: a server with room for two, on which nothing is made."""

    name = "mysql"

    def placements(self, type_: str) -> list[Placement]:
        return [Placement("one", 2)]

    def shares_login(self, type_: str) -> bool:
        return False

    def plan(self, prefix: str, owner: Owner, type_: str, number: int, server: str) -> Spec:
        return Spec(number, type_, server, "user", "object")


def test_refusals_do_not_make_a_server_look_full(
    clean: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, installation = Project(clean, credentials=1), clean.installation
    monkeypatch.setitem(installation.backends, "mysql", cast(Backend, SmallServer()))
    monkeypatch.setattr(installation, "loads", ServerLoads(project.database))
    project.take("1")
    caller = Caller(project.principal("2"), Secret(""))
    for _ in range(3):
        with pytest.raises(errors.QuotaExceeded):
            get_or_create(installation, caller, BACKENDS["mysql"], "sandbox")


# For operators --------------------------------------------------------------------------


def test_operators_see_what_is_used_against_the_limits(
    clean: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(clean, **{"credentials": 5, "token.containers": 2, "credentials.soft": 1})
    project.take("1"), project.order("2")
    with project.database.write() as session:
        session.add(row_of("9", "mysql", "one", "9:mysql:sandbox", project_id="71"))
    config: Config = clean.installation.config
    environment = {
        "STATE_URL": config.state_url.reveal(),
        "BROKER_URL": config.broker_url.reveal(),
        "ENCRYPTION_KEYS": config.encryption_keys[0].reveal(),
        "QUOTAS": "credentials=9,credentials.mysql=3",
        "DOCKER_URL": "unix:///nowhere?memory_mb=700",
    }
    shown = CliRunner().invoke(cli, ["quotas"], env=environment)
    assert shown.exit_code == 0, shown.output
    rows = [line.replace("│", " ").split() for line in shown.output.splitlines() if "│" in line]
    assert rows == [
        ["70", "credentials", "2", "1", "5"],
        ["70", "credentials.mysql", "1", "3"],
        ["70", "containers", "1"],
        ["70", "memoryMb", "700"],
        ["70", "1", "containers", "0", "2"],
        ["70", "2", "containers", "1", "2"],
        ["71", "credentials", "1", "9"],
        ["71", "credentials.mysql", "1", "3"],
    ]
    only = CliRunner().invoke(cli, ["quotas", "--project", "71"], env=environment)
    assert "credentials" in only.output and " 70 " not in only.output
