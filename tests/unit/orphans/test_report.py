"""What the report says of rows alone, and what becomes of them."""

import pytest
from sqlalchemy import delete, update

from provisioning.orphans.comparison import build_report
from provisioning.orphans.repair import repair
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Job, Login
from tests.support.waiting_jobs import Queue
from tests.unit.credentials.test_abandoned_creations import Engine, found, half_made

MINUTE = 60_000


class Server(Engine):
    """An engine that has nothing, and lacks nothing."""

    parts = frozenset[str]()

    def servers(self) -> list[str]:
        return ["default"]

    def inventory(self, prefix: str, server: str) -> list[object]:
        return []


@pytest.fixture
def server(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setitem(queue.installation.backends, "docker", server)
    with queue.installation.database.write() as session:
        session.execute(delete(Credentials))
        session.execute(delete(Login))
    return server


def change(queue: Queue, number: int, **values: object) -> None:
    with queue.installation.database.write() as session:
        session.execute(update(Credentials).where(Credentials.id == number).values(**values))


def stuck(queue: Queue) -> dict[int, str]:
    return {flaw.row.id: flaw.why for flaw in build_report(queue.installation).stuck}


def test_a_row_whose_job_is_over_is_stuck_and_goes_on(queue: Queue, server: Server) -> None:
    busy, number = half_made(queue), half_made(queue)
    change(queue, number, state=CredentialsState.DROPPING)
    assert stuck(queue) == {}
    with queue.installation.database.write() as session:
        session.execute(update(Job).where(Job.id == number).values(ended_at=1))
    assert stuck(queue) == {number: "its job is over"}
    outcome = repair(queue.installation, build_report(queue.installation))
    assert (outcome.removed, outcome.waiting) == (1, {})
    assert server.dropped == [number]
    assert found(queue, busy)[1].state is CredentialsState.CREATING


def test_rows_that_nobody_works_on_or_in_vain_are_stuck(queue: Queue, server: Server) -> None:
    idle, vain, fresh, paused = (half_made(queue) for _ in range(4))
    for number in (idle, vain, fresh, paused):
        change(queue, number, state=CredentialsState.DROPPING, job_id=None)
    change(queue, vain, attempts=9, not_before=now_ms() + MINUTE, failure="refused")
    change(queue, fresh, created_at=now_ms(), not_before=now_ms())
    change(queue, paused, not_before=now_ms() - MINUTE)
    assert stuck(queue) == {
        idle: "nobody works on it",
        vain: "it is tried in vain: refused",
    }


def test_a_login_that_no_credential_uses_is_forgotten(queue: Queue, server: Server) -> None:
    used = half_made(queue)
    with queue.installation.database.write() as session:
        for number in (1, 2):
            session.add(
                Login(id=number, server="default", person=str(number), user_name="u", secret="")
            )
    change(queue, used, login_id=1)
    assert [lost.login.id for lost in build_report(queue.installation).logins] == [2]
    repair(queue.installation, build_report(queue.installation))
    assert build_report(queue.installation).logins == []
    with queue.installation.database.read() as session:
        assert session.get(Login, 1) is not None
