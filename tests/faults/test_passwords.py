"""A process dies, or is paused, while it gives a login a new password."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from provisioning.access.tokens import Caller, LocalTokens
from provisioning.configuration import config
from provisioning.configuration.catalog import backend_rules
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.configuration.servers import url_key
from provisioning.credentials import changes, reconcile
from provisioning.credentials.changes import reset_password
from provisioning.credentials.creation import get_or_create
from provisioning.credentials.reading import find_by_id
from provisioning.errors import BackendUnavailable
from provisioning.installation import Installation, build_installation
from provisioning.state import failpoints
from provisioning.state.bootstrap import prepare_state
from provisioning.state.events import Action, newest_events
from provisioning.state.models import Credentials
from tests.faults.engines.base import Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.stack import Points, wait_stopped
from tests.support.deadlines import DEADLINE

#: Where it can die, in their order; Snowflake has no lock to take.
STEPS = ("proposed", "locked", "set", "told", "confirmed")
UNAVAILABLE = 3
KEY = generate_key().reveal()


def renew(environment: dict[str, str], token: str, backend: str, id_: str, points: str) -> None:
    """Give a login a new password, unless a failpoint ends the process."""
    failpoints.watch(points)
    installation = build_installation(config.load(environment))
    secret = Secret(token)
    caller = Caller(installation.tokens.verify(secret), secret, "")
    try:
        reset_password(installation, caller, backend, id_)
    except BackendUnavailable:
        os._exit(UNAVAILABLE)


@dataclass
class Renewing:
    """One credential, and processes that give it a new password."""

    engine: Engine
    environment: dict[str, str]
    installation: Installation
    caller: Caller
    id: str
    points: Points

    def process(self) -> BaseProcess:
        """Start a process that does what `renew` does."""
        # The threads of Snowflake's connector hold locks that a fork would inherit.
        is_threaded = self.engine.backend == "snowflake"
        spawn, fork = multiprocessing.get_context("spawn"), multiprocessing.get_context("fork")
        start = spawn.Process if is_threaded else fork.Process
        process: BaseProcess = start(
            target=renew,
            args=(
                self.environment,
                self.caller.token.reveal(),
                self.engine.backend,
                self.id,
                str(self.points.directory),
            ),
        )
        process.start()
        return process

    def read(self) -> dict[str, Any]:
        """Return what its owner reads next; it has to work."""
        view = find_by_id(self.installation, self.caller, self.engine.backend, self.id)
        self.engine.try_login(view.details)
        return view.details

    def create(self) -> dict[str, Any]:
        """Return what a repeated create answers; it has to work."""
        rules = backend_rules(self.engine.backend)
        view = get_or_create(self.installation, self.caller, rules, "sandbox")
        assert str(view.id) == self.id
        self.engine.try_login(view.details)
        return view.details


def environment_of(directory: Path, engine: Engine) -> dict[str, str]:
    return {
        "STATE_URL": f"sqlite:///{directory}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": KEY,
        "CLAIM_SECONDS": "2",
        url_key(engine.backend): engine.url,
    }


def installed(directory: Path, engine: Engine) -> tuple[Installation, Caller]:
    """Return an installation on the engine, and a caller with a token of it."""
    installation = build_installation(config.load(environment_of(directory, engine)))
    prepare_state(installation.database)
    _, token = LocalTokens(installation.database).create(
        project_id="70", project_name="Password", person_id="7", description="x", features=[]
    )
    return installation, Caller(installation.tokens.verify(token), token, "")


@pytest.fixture(params=["mysql", "postgresql", "redshift-workspace", "snowflake"])
def renewing(
    request: pytest.FixtureRequest, tmp_path: Path, engines: dict[str, Engine]
) -> Iterator[Renewing]:
    engine = engines[request.param]
    installation, caller = installed(tmp_path, engine)
    made = get_or_create(installation, caller, backend_rules(engine.backend), "sandbox")
    points = Points(tmp_path / "points")
    environment = environment_of(tmp_path, engine)
    yield Renewing(engine, environment, installation, caller, str(made.id), points)
    installation.close()


@pytest.mark.parametrize("look", ["read", "create"])
def test_the_next_call_has_a_password_that_works_wherever_a_process_dies(
    renewing: Renewing, look: str
) -> None:
    last = renewing.read()["password"]
    for step in STEPS:
        if step == "locked" and "password.locked" not in renewing.engine.password:
            continue
        renewing.points.arm(f"password.{step}")
        process = renewing.process()
        process.join(DEADLINE)
        assert process.exitcode == -signal.SIGKILL, step
        # The new one had been recorded, so it is the one from now on.
        found = getattr(renewing, look)()["password"]
        assert found != last, step
        last = found
        # It is settled: further looks find the same.
        assert renewing.read()["password"] == last, step


def test_a_process_that_was_paused_sets_no_password_that_is_over(renewing: Renewing) -> None:
    renewing.points.arm("password.proposed", "pause")
    late = renewing.process()
    assert late.pid
    wait_stopped(late.pid, "password.proposed")
    # Another one waits for the end of its claim, and takes over.
    other = renewing.process()
    other.join(DEADLINE)
    assert other.exitcode == 0
    third = renewing.process()
    third.join(DEADLINE)
    assert third.exitcode == 0
    last = renewing.read()["password"]
    os.kill(late.pid, signal.SIGCONT)
    late.join(DEADLINE)
    assert late.exitcode == UNAVAILABLE
    assert renewing.read()["password"] == last


def test_a_login_of_its_own_that_is_refused_is_not_waited_for(
    tmp_path: Path, mysql: MySQLEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes a credential has its claim, so nobody else sets its password."""
    installation, caller = installed(tmp_path, mysql)
    monkeypatch.setattr(reconcile, "mend", lambda *_: pytest.fail("it was waited for"))
    mysql.run("CREATE USER ''@'127.0.0.1'")
    try:
        with pytest.raises(BackendUnavailable) as refused:
            get_or_create(installation, caller, backend_rules("mysql"), "transformations")
    finally:
        mysql.run("DROP USER ''@'127.0.0.1'")
    # What operators read of it, in the log and in the audit.
    assert refused.value.cause is not None
    assert refused.value.cause.endswith("DROP USER ''@'127.0.0.1'")
    (event,) = newest_events(installation.database, 1, action=Action.CREATION_FAILED)
    assert event.failure == refused.value.cause
    installation.close()


@pytest.mark.parametrize("renewing", ["mysql"], indirect=True)
def test_an_extend_leaves_a_password_that_was_renewed_meanwhile(
    renewing: Renewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server issues a token for an extend, and then others for a new password."""

    def issue_late(installation: Installation, _: Credentials) -> dict[str, Any]:
        reset_password(installation, renewing.caller, renewing.engine.backend, renewing.id)
        return {"secret": installation.vault.encrypt(Secret("of-the-extend"))}

    monkeypatch.setattr(changes, "prolong", issue_late)
    changes.extend(renewing.installation, renewing.caller, renewing.engine.backend, renewing.id)
    renewing.read()
