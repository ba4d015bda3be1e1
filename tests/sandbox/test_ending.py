"""The last hours of sandboxes: warnings, notes and notices, and a grace for those in use."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from provisioning.backends.base import EngineUnavailable, Spec
from provisioning.configuration import config
from provisioning.credentials.expiry import expired_on, retire
from provisioning.credentials.notices import deliver
from provisioning.credentials.warnings import attend_at, take_due
from provisioning.errors import ConfigurationError
from provisioning.installation import Installation
from provisioning.sandbox.grace import attend
from provisioning.state.claims import Lease, take
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import newest_events
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Notice
from tests.sandbox.receiver import SECRET, Receiver
from tests.sandbox.stand_in_engine import StandInEngine, work_on

PATH = "/provisioning/async/docker"
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


@pytest.fixture
def environment(environment: dict[str, str], receiver: Receiver) -> dict[str, str]:
    return {
        **environment,
        "CALLBACK_HOSTS": receiver.origin,
        "CALLBACK_SECRET": SECRET,
        "WARNING_URL": f"{receiver.origin}/ends",
        "SANDBOX_GRACE": "2h",
    }


class Sandbox:
    """A sandbox of the stand-in, whose end a test brings near."""

    def __init__(self, installation: Installation, front: FlaskClient) -> None:
        self.installation, self.front = installation, front
        job_id = front.post(PATH, json={"type": "jupyter"}).get_json()["id"]
        work_on(installation, job_id)
        result = front.get(f"/queue/job/{job_id}").get_json()["result"]
        self.id = int(result["credentials"]["id"])
        self.path = f"/provisioning/docker/{self.id}"

    @property
    def row(self) -> Credentials:
        with self.installation.database.read() as session:
            return session.get_one(Credentials, self.id)

    def bring_end(self, left: int) -> str:
        """Let time pass until so many milliseconds before the end; return the expiration."""
        with self.installation.database.write() as session:
            row, now = session.get_one(Credentials, self.id), read_clock(session)
            passed = (row.expires_at or 0) - now - left
            row.expires_at, row.touched_at = now + left, row.touched_at - passed
            row.warned_at = row.warned_at and row.warned_at - passed
            row.attend_at = attend_at(self.installation.config, row, now)
        return str(format_time(row.expires_at))

    def look(self) -> None:
        """Do all that is due now."""
        with self.installation.database.write() as session:
            row, now = session.get_one(Credentials, self.id), read_clock(session)
            row.attend_at = row.attend_at and min(row.attend_at, now)
        for id_, _ in take_due(self.installation).sandboxes:
            attend(self.installation, id_)

    def actions(self) -> list[str]:
        events = newest_events(self.installation.database, 99, credentials_id=self.id)
        return [event.action for event in events if not event.action.startswith("job.")]

    def read(self) -> Any:
        answer = self.front.get(self.path)
        return answer.get_json() if answer.status_code == 200 else answer.status_code


@pytest.fixture
def sandbox(installation: Installation, front: FlaskClient) -> Sandbox:
    return Sandbox(installation, front)


def test_the_end_is_told_in_the_answer_the_sandbox_and_the_audit(
    sandbox: Sandbox, engine: StandInEngine
) -> None:
    assert "warning" not in sandbox.read()
    sandbox.look()
    assert engine.notes == {} and sandbox.actions() == ["credentials.created"]
    end = sandbox.bring_end(23 * HOUR)
    assert sandbox.read()["warning"] == f"This sandbox ends at {end}. Extend it to keep it."
    sandbox.look()
    sandbox.look()
    assert sandbox.actions()[1:] == ["credentials.expiring"]
    assert engine.notes == {
        sandbox.id: f"This sandbox, with all that is in it, is removed at {end}.\n"
        f"Extend it to keep it: POST {sandbox.path}/extend\n"
    }


def test_an_extend_takes_the_warning_back_and_the_note_follows(
    sandbox: Sandbox, engine: StandInEngine
) -> None:
    sandbox.bring_end(30 * MINUTE)
    sandbox.look()
    extended = sandbox.front.post(f"{sandbox.path}/extend").get_json()
    assert "warning" not in sandbox.read()
    due = take_due(sandbox.installation).sandboxes
    assert due == [(sandbox.id, "docker")], "at once, not at the next warning"
    attend(sandbox.installation, sandbox.id)
    assert extended["expiration"] in engine.notes[sandbox.id]
    assert take_due(sandbox.installation).sandboxes == []
    sandbox.bring_end(30 * MINUTE)
    sandbox.look()
    expiring = [action for action in sandbox.actions() if action == "credentials.expiring"]
    assert len(expiring) == 2, "the new end is warned of anew"


def test_a_note_that_could_not_be_left_is_left_later(
    sandbox: Sandbox, engine: StandInEngine
) -> None:
    engine.goes_on = EngineUnavailable("server one: no answer")
    sandbox.bring_end(23 * HOUR)
    sandbox.look()
    assert engine.notes == {}
    assert take_due(sandbox.installation).sandboxes == [], "not before a pause"
    engine.goes_on = {"connections": 0, "busyKernels": None}
    sandbox.look()
    assert list(engine.notes) == [sandbox.id]
    assert sandbox.actions()[1:] == ["credentials.expiring"]


def test_an_extend_in_the_midst_of_writing_is_written_next(
    sandbox: Sandbox, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extend_and_write(spec: Spec, text: str, lease: Lease) -> None:
        monkeypatch.undo()
        sandbox.front.post(f"{sandbox.path}/extend")
        engine.leave_note(spec, text, lease)

    monkeypatch.setattr(engine, "leave_note", extend_and_write)
    sandbox.bring_end(23 * HOUR)
    sandbox.look()
    assert sandbox.read()["expiration"] not in engine.notes[sandbox.id]
    for id_, _ in take_due(sandbox.installation).sandboxes:
        attend(sandbox.installation, id_)
    assert sandbox.read()["expiration"] in engine.notes[sandbox.id]


def test_who_lost_the_sandbox_to_another_process_stops(
    sandbox: Sandbox, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_it(spec: Spec, text: str, lease: Lease) -> None:
        with sandbox.installation.database.write() as session:
            session.get_one(Credentials, sandbox.id).claim_token += 1

    monkeypatch.setattr(engine, "leave_note", lose_it)
    sandbox.bring_end(23 * HOUR)
    sandbox.look()
    assert sandbox.row.noted_end is None and sandbox.row.claim_until is not None


def test_nobody_writes_where_another_process_works(sandbox: Sandbox, engine: StandInEngine) -> None:
    sandbox.bring_end(23 * HOUR)
    with sandbox.installation.database.write() as session:
        lease = take(session, Credentials, sandbox.id, 60)
    sandbox.look()
    assert lease is not None and engine.notes == {}
    with sandbox.installation.database.write() as session:
        lease.close(session)
    sandbox.look()
    assert list(engine.notes) == [sandbox.id]
    assert sandbox.row.claim_until is None


# Notices --------------------------------------------------------------------------------


def due_notices(installation: Installation) -> list[int]:
    return [id_ for id_, backend in take_due(installation).notices if backend == "docker"]


def test_the_operators_server_is_told_without_a_secret(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    end = sandbox.bring_end(23 * HOUR)
    [notice] = due_notices(sandbox.installation)
    receiver.status = 500
    deliver(sandbox.installation, notice)
    assert due_notices(sandbox.installation) == [], "not before a pause"
    deliver(sandbox.installation, notice)
    assert len(receiver.heard) == 1
    receiver.status = 200
    with sandbox.installation.database.write() as session:
        session.get_one(Notice, notice).not_before = 0
    deliver(sandbox.installation, notice)
    deliver(sandbox.installation, notice)
    heard = receiver.heard[-1]
    assert len(receiver.heard) == 2 and heard.path == "/ends"
    assert heard.headers["x-provisioning-signature"].startswith("sha256=")
    assert json.loads(heard.body) == {
        "event": "credentials.expiring",
        "id": sandbox.id,
        "backend": "docker",
        "type": "jupyter",
        "project": "70",
        "token": sandbox.row.token_id,
        "expiration": end,
        "leadSeconds": DAY // SECOND,
        "canExtend": True,
    }
    assert sandbox.actions()[-1] == "warning.taken"
    with sandbox.installation.database.read() as session:
        assert session.get(Notice, notice) is None


def test_a_notice_of_an_end_that_is_none_any_more_is_not_sent(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.bring_end(23 * HOUR)
    [notice] = due_notices(sandbox.installation)
    assert sandbox.front.post(f"{sandbox.path}/extend").status_code == 200
    deliver(sandbox.installation, notice)
    assert receiver.heard == [] and due_notices(sandbox.installation) == []


def test_a_notice_that_nobody_takes_is_given_up(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.bring_end(23 * HOUR)
    [notice] = due_notices(sandbox.installation)
    with sandbox.installation.database.write() as session:
        session.get_one(Notice, notice).created_at -= 7 * HOUR
    receiver.status = 500
    deliver(sandbox.installation, notice)
    assert sandbox.actions()[-1] == "warning.given_up"
    assert due_notices(sandbox.installation) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://elsewhere.example.com/x", "WARNING_URL: its host is not one of CALLBACK_HOSTS"),
        ("elsewhere", "WARNING_URL: an address such as https://host/path is expected"),
    ],
)
def test_only_an_allowed_host_is_told(environment: dict[str, str], url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        config.load({**environment, "WARNING_URL": url})


# Grace ----------------------------------------------------------------------------------


@pytest.mark.parametrize("goes_on", [(1, None), (0, 1)])
def test_a_sandbox_in_use_lives_on_once(
    sandbox: Sandbox, engine: StandInEngine, goes_on: tuple[int, int | None]
) -> None:
    """It is in use while somebody is connected, and while a computation goes on."""
    engine.goes_on = dict(zip(("connections", "busyKernels"), goes_on, strict=True))
    sandbox.bring_end(2 * MINUTE)
    sandbox.look()
    assert "credentials.grace_given" not in sandbox.actions(), "it may still be left"
    before = sandbox.bring_end(30 * SECOND)
    touch, end = sandbox.row.touched_at, sandbox.row.expires_at or 0
    sandbox.look()
    assert sandbox.row.expires_at == end + 2 * HOUR
    after = str(format_time(end + 2 * HOUR))
    body = sandbox.read()
    assert body["expiration"] == after and body["touch"] == touch // SECOND
    assert after in engine.notes[sandbox.id]
    event = newest_events(sandbox.installation.database, 1, action="credentials.grace_given")[0]
    assert event.detail == {
        "before": {"touch": body["touch"], "expiration": before},
        "after": {"touch": body["touch"], "expiration": after},
    }
    sandbox.bring_end(30 * SECOND)
    end = sandbox.row.expires_at or 0
    sandbox.look()
    assert sandbox.row.expires_at == end, "no second time"
    assert sandbox.front.post(f"{sandbox.path}/extend").status_code == 200
    sandbox.bring_end(30 * SECOND)
    end = sandbox.row.expires_at or 0
    sandbox.look()
    assert sandbox.row.expires_at == end + 2 * HOUR, "but again after an extend"


def test_a_sandbox_nobody_works_in_expires(sandbox: Sandbox) -> None:
    sandbox.bring_end(30 * SECOND)
    end = sandbox.row.expires_at
    sandbox.look()
    assert sandbox.row.expires_at == end
    assert take_due(sandbox.installation).sandboxes == [], "looked at again after a pause"
    next_look = sandbox.row.attend_at
    assert next_look is not None and end is not None and next_look < end


def test_what_has_expired_gets_no_grace(sandbox: Sandbox, engine: StandInEngine) -> None:
    engine.goes_on = {"connections": 1, "busyKernels": None}
    sandbox.bring_end(30 * SECOND)
    sandbox.bring_end(-SECOND)
    attend(sandbox.installation, sandbox.id)
    assert sandbox.read() == 404 and sandbox.row.grace_until is None
    with sandbox.installation.database.write() as session:
        retire(session, sandbox.row)
    attend(sandbox.installation, sandbox.id)
    assert sandbox.row.state is CredentialsState.DROPPING and sandbox.row.grace_until is None


@pytest.mark.parametrize("change", ["extend", "delete", "expire"])
def test_what_happens_during_the_look_wins(
    sandbox: Sandbox, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def look_meanwhile(spec: Spec) -> dict[str, Any]:
        monkeypatch.undo()
        if change == "extend":
            sandbox.front.post(f"{sandbox.path}/extend")
        elif change == "delete":
            sandbox.front.delete(f"{PATH}/{sandbox.id}")
        else:
            sandbox.bring_end(-SECOND)
        return {"connections": 1, "busyKernels": None}

    sandbox.bring_end(30 * SECOND)
    monkeypatch.setattr(engine, "activity", look_meanwhile)
    sandbox.look()
    assert sandbox.row.grace_until is None
    assert "credentials.grace_given" not in sandbox.actions()


def test_a_hung_engine_does_not_save_a_sandbox(sandbox: Sandbox, engine: StandInEngine) -> None:
    engine.goes_on = EngineUnavailable("server one: no answer")
    sandbox.bring_end(30 * SECOND)
    sandbox.look()
    sandbox.bring_end(-SECOND)
    with sandbox.installation.database.read() as session:
        expired = session.scalars(expired_on("docker", "one")).all()
    assert [row.id for row in expired] == [sandbox.id]


class TestWithAHardMaximum:
    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return {**environment, "DOCKER_JUPYTER_MAX_LIFETIME": "6d"}

    def test_the_grace_ends_there(self, sandbox: Sandbox, engine: StandInEngine) -> None:
        engine.goes_on = {"connections": 1, "busyKernels": None}
        for left, given in ((30 * MINUTE, 30 * MINUTE), (-HOUR, 0)):
            sandbox.bring_end(30 * SECOND)
            with sandbox.installation.database.write() as session:
                row = session.get_one(Credentials, sandbox.id)
                end, row.grace_until = row.expires_at or 0, None
                row.created_at = end - end % SECOND + left - 6 * DAY
                row.touched_at = row.created_at + 5 * DAY
            sandbox.look()
            moved = (sandbox.row.expires_at or 0) - end
            assert given - SECOND <= moved <= given
        assert sandbox.actions().count("credentials.grace_given") == 1
        warning = sandbox.read()["warning"]
        assert warning.endswith("It cannot be extended.")
        assert "cannot be extended" in engine.notes[sandbox.id]
