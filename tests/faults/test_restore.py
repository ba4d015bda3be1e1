"""Yesterday's state is restored: the service looks on, and acts when it is told to."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from devstack.valkey import Valkey
from provisioning.state.bootstrap import prepare_state
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.oracle import Oracle
from tests.faults.rows import wait_dropped, wait_swept
from tests.faults.stack import SETTLE, FaultyService
from tests.faults.test_orphans import report, run
from tests.support.deadlines import wait_until

pytestmark = pytest.mark.fault(row="F18")

DAY = 86_400_000


@pytest.fixture
def own_service(mysql: Engine, valkey: Valkey, tmp_path: Path) -> Iterator[FaultyService]:
    service = FaultyService(tmp_path / "service", [mysql], valkey=valkey)
    yield service
    service.stop()


def copy_state(service: FaultyService, to: Path) -> None:
    """Back the state up as the operations guide says."""
    with (
        closing(sqlite3.connect(service.directory / "state.db")) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)


def stop_processes(service: FaultyService) -> None:
    for process in (*service.fronts, *service.beats, *service.workers):
        process.stop()
    service.installation.close()


def restore(service: FaultyService, copy: Path, expired: list[str]) -> None:
    """Replace the state with yesterday's copy; what it says has ``expired`` by now."""
    for left in service.directory.glob("state.db*"):
        left.unlink()
    shutil.copy(copy, service.directory / "state.db")
    with closing(sqlite3.connect(service.directory / "state.db")) as state, state:
        state.execute("UPDATE sequences SET value = value - ? WHERE name = 'clock'", (DAY,))
        marks = ", ".join("?" * len(expired))
        ago = f"UPDATE credentials SET expires_at = created_at - ? WHERE id IN ({marks})"
        state.execute(ago, (DAY, *expired))
    prepare_state(service.installation.database)


def restart(service: FaultyService) -> None:
    for process in (*service.workers, *service.beats, *service.fronts):
        service.restart(process)


def row_of(service: FaultyService, body: dict[str, Any]) -> Credentials:
    with service.installation.database.read() as session:
        return session.get_one(Credentials, int(body["id"]))


def test_a_restored_state_drops_nothing_until_told(
    own_service: FaultyService, mysql: Engine, tmp_path: Path
) -> None:
    service, ledger = own_service, Ledger()
    service.start()
    wait_swept(service)
    extended, kept, dropped, own = (Caller(service, ledger) for _ in range(4))
    bodies = {caller: caller.create("transformations") for caller in (extended, kept, dropped, own)}
    copy_state(service, tmp_path / "copy.db")
    extended.extend(bodies[extended]["id"])
    dropped.drop(bodies[dropped]["id"])
    late = Caller(service, Ledger())
    made_since = late.create("transformations")
    broker = redis.Redis.from_url(service.environment["BROKER_URL"])
    key = f"provisioning:{service.installation.code}:clock"
    stop_processes(service)
    # A broker that remembers would tell first.
    assert broker.delete(key) == 1
    restore(service, tmp_path / "copy.db", [bodies[extended]["id"], bodies[kept]["id"]])

    restart(service)
    wait_swept(service, 2)
    assert made_since["credentials"]["db"] in observing(service)
    for body in (bodies[extended], bodies[kept], made_since):
        mysql.try_login(body["credentials"])
    found = report(service)
    assert {one["credentials"] for one in found["orphans"]} == {int(made_since["id"])}
    assert [one["credentials"] for one in found["ghosts"]] == [int(bodies[dropped]["id"])]
    code, said = run(service, "orphans", "--fix")
    assert (code, "the service observes" in said) == (1, True)

    # Creations go on, with new numbers, and removals that somebody asks for.
    fresh = Caller(service, ledger).create("transformations")
    assert int(fresh["id"]) > int(made_since["id"])
    own.drop(bodies[own]["id"])
    # An owner whose credential has expired by the old state gets another; the old one stays.
    again = kept.create("transformations")
    assert again["id"] != bodies[kept]["id"]
    wait_swept(service)
    mysql.try_login(bodies[kept]["credentials"])
    assert row_of(service, bodies[kept]).state is CredentialsState.DROPPING

    assert run(service, "observe", "off")[0] == 0
    code, said = run(service, "orphans", "--fix")
    assert code == 0, said
    gone = [bodies[caller] for caller in (extended, kept, dropped)]
    wait_dropped(service, [int(body["id"]) for body in gone])
    for body in (*gone, made_since):
        ledger.promises.pop(body["id"], None)
        with pytest.raises(mysql.error):
            mysql.try_login(body["credentials"])
    assert observing(service) is None
    Oracle(service, ledger).assert_clean()

    # A broker that remembers tells, too, where nothing was made since.
    with closing(broker):
        remembered = broker.get(key)
        assert isinstance(remembered, bytes)
        broker.set(key, int(remembered) + DAY)
    wait_until(lambda: observing(service), timeout=SETTLE, what="the service observes")
    assert "the broker knows of a sweep" in observing(service)


def observing(service: FaultyService) -> Any:
    return service.anonymous().get("/health/ready").body.get("observing")
