"""Objects that somebody removed behind the service, all of them or one part."""

import contextlib
import json

import pytest

from provisioning.state.enums import JobStatus
from tests.faults.callers import Caller, Ledger
from tests.faults.conftest import BACKENDS
from tests.faults.engines.base import Engine
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, jobs_of, wait_dropped
from tests.faults.stack import FaultyService

pytestmark = pytest.mark.fault(row="F15")


def removals(engine: Engine) -> list[tuple[str, ...]]:
    """Return which parts to remove together."""
    return [(part,) for part in engine.parts] + [engine.parts]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_close_at_the_first_try_and_nobody_complains(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    engines: dict[str, Engine],
    ledger: Ledger,
    backend: str,
) -> None:
    engine, numbers = engines[backend], []
    before = set(_complaints(mixed_service.logs()))
    for type_ in engine.types:
        for parts in removals(engine):
            body = Caller(mixed_service, ledger, backend=backend).create(type_)
            for part in parts:
                engine.remove(body["credentials"], part)
            numbers.append(int(body["id"]))
    expire(mixed_service, numbers)
    wait_dropped(mixed_service, numbers)
    outcomes = {(job.status, job.attempts) for job in jobs_of(mixed_service, numbers)}
    assert outcomes == {(JobStatus.SUCCESS, 1)}
    for number in numbers:
        ledger.deleted(str(number))
    mixed_oracle.assert_clean()
    assert set(_complaints(mixed_service.logs())) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_owner_sees_it_gone_and_gets_a_new_one(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    engines: dict[str, Engine],
    ledger: Ledger,
    backend: str,
) -> None:
    engine = engines[backend]
    for type_ in engine.types:
        for parts in removals(engine):
            caller = Caller(mixed_service, ledger, backend=backend)
            body = caller.create(type_)
            for part in parts:
                engine.remove(body["credentials"], part)
            assert caller.read(body["id"]).status == 404
            fresh = caller.create(type_)
            assert fresh["id"] != body["id"]
            assert fresh.get("workspaceId") != body.get("workspaceId") or backend == "mysql"
            engine.try_login(fresh["credentials"])
            ledger.deleted(body["id"])
    # What was left of the old ones has been removed too.
    mixed_oracle.assert_clean()


def _complaints(text: str) -> list[str]:
    """Return the log lines about delays and errors."""
    complaints = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            if json.loads(line).get("level") in ("warning", "error", "critical"):
                complaints.append(line)
    return complaints
