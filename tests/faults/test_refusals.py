"""Statements that the server refuses: missing rights, and names that somebody else has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from provisioning.configuration.secrets import Secret
from provisioning.state.models import Credentials, Job
from tests.faults.callers import Caller, Ledger
from tests.faults.conftest import BACKENDS
from tests.faults.engines.base import Engine, Right
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.deadlines import wait_until

pytestmark = pytest.mark.fault(row="F3")

#: Every backend, and on MySQL the types too, whose steps differ.
CASES = [("mysql", type_) for type_ in MySQLEngine.types]
CASES += [(backend, "sandbox") for backend in BACKENDS if backend != "mysql"]
#: Numbers that a front takes at once (`NumberBlocks`): after the last one the next is any other.
BLOCK = 100


class Scene:
    """One engine of the service with all of them, whose administrator is robbed of rights."""

    def __init__(self, service: FaultyService, engine: Engine, type_: str, ledger: Ledger) -> None:
        self.service, self.engine, self.type = service, engine, type_
        self.oracle = Oracle(service, ledger)
        self._ledger = ledger
        #: A credential from before all changes.
        self._witness = self.caller()
        self._seen = self._witness.create(type_)["id"]

    def caller(self) -> Caller:
        return Caller(self.service, self._ledger, backend=self.engine.backend)

    @contextmanager
    def without(self, right: Right) -> Iterator[None]:
        """Take a right from the administrator for a block."""
        self._change(right.take)
        try:
            yield
        finally:
            self._change(right.give)

    def _change(self, statement: str) -> None:
        self.engine.run(statement)
        self.engine.forget_rights()
        # The answer comes over a session of now.
        assert self._witness.read(self._seen).status == 200

    def names(self) -> frozenset[str]:
        return self.engine.take_inventory(self.service.installation.prefix).names()

    def refused(self, caller: Caller) -> str:
        """Send a create that fails with 503 and Retry-After; return the failure of its row."""
        client = self.service.impatient_client(caller.token)
        answer = client.post(caller.path, {"type": self.type})
        assert answer.status == 503, answer
        assert answer.body["reason"] == "backend_unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        token_id = self.service.installation.tokens.verify(Secret(caller.token)).token_id
        query = select(Credentials.failure).where(Credentials.token_id == token_id)
        with self.service.installation.database.read() as session:
            return session.scalars(query.order_by(Credentials.id.desc())).first() or ""

    def next_number(self) -> int:
        """Return the number that the only front gives to its next credential."""
        number = BLOCK
        while number % BLOCK == 0:
            caller = self.caller()
            body = caller.create(self.type)
            caller.drop(body["id"])
            number = int(body["id"])
        return number + 1

    def create(self, caller: Caller) -> None:
        self.engine.try_login(caller.create(self.type)["credentials"])


NewScene = Callable[[str, str], Scene]


@pytest.fixture
def new_scene(mixed_service: FaultyService, engines: dict[str, Engine], ledger: Ledger) -> NewScene:
    return lambda backend, type_: Scene(mixed_service, engines[backend], type_, ledger)


@pytest.mark.parametrize(("backend", "type_"), CASES)
def test_a_missing_right_leaves_nothing_behind(
    new_scene: NewScene, backend: str, type_: str
) -> None:
    scene = new_scene(backend, type_)
    before = scene.names()
    for right in scene.engine.creation_rights():
        caller = scene.caller()
        with scene.without(right):
            assert f": {right.step}: " in scene.refused(caller)
            assert scene.names() == before, f"objects are left without {right.step}"
        scene.create(caller)
        before = scene.names()
    scene.oracle.assert_clean()


# In MySQL's sandboxes another statement is refused first: who lacks a right cannot revoke it.
@pytest.mark.parametrize(("backend", "type_"), CASES[1:])
def test_a_drop_that_is_refused_says_at_which_step_and_is_done_later(
    new_scene: NewScene, backend: str, type_: str
) -> None:
    scene = new_scene(backend, type_)
    caller = scene.caller()
    body = caller.create(type_)
    right = scene.engine.removal_right(body["credentials"])

    def failure() -> str:
        with scene.service.installation.database.read() as session:
            return session.get_one(Job, job).failure or ""

    with scene.without(right):
        job = caller.drop_later(body["id"])
        assert job is not None
        wait_until(lambda: f": {right.step}: " in failure(), what=right.step)
    assert caller.wait_for_job(job)["status"] == "success"
    caller.ledger.deleted(body["id"])
    scene.oracle.assert_clean()


@pytest.mark.parametrize(("backend", "type_"), CASES)
def test_what_is_foreign_under_the_next_name_survives(
    new_scene: NewScene, backend: str, type_: str
) -> None:
    scene = new_scene(backend, type_)
    engine, prefix = scene.engine, scene.service.installation.prefix
    for part in [foreign.part for foreign in engine.foreigners(prefix, 0, type_)]:
        number = scene.next_number()
        (foreign,) = (f for f in engine.foreigners(prefix, number, type_) if f.part == part)
        engine.run(*foreign.make)
        before, looked = scene.names(), engine.run(foreign.look)
        caller = scene.caller()
        assert scene.refused(caller).endswith(" exists")
        assert (scene.names(), engine.run(foreign.look)) == (before, looked)
        scene.create(caller)
        assert looked
        engine.run(foreign.remove)
    scene.oracle.assert_clean()
