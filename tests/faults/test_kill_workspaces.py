"""kill -9 at every step on the backends with workspaces, all in one service."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from tests.faults.callers import Ledger
from tests.faults.conftest import BACKENDS
from tests.faults.engines.base import Engine
from tests.faults.rounds import (
    KILL,
    REQUESTS,
    ROUNDS,
    creation_points,
    kill_in_traffic,
    kill_who_cleans_up,
    removal_points,
)
from tests.faults.stack import SHORT_CLAIM, FaultyService
from tests.support.service import TREE, running

#: Half as many as on MySQL, which shares all but the backends' own steps.
OWN_ROUNDS = max(ROUNDS // 2, 1)
#: What `redshift-workspace` is tried with beside `postgresql`: the code is the same, but the
#: server has no locks.
SAMPLE = {
    "web": ("create.login", "create.schema", "extend.prolonged"),
    "worker": ("drop.sessions", "drop.login", "kill.sessions"),
}


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Engine], valkey: Valkey
) -> Iterator[FaultyService]:
    """Two fronts and two workers that are killed all the time."""
    used = [engine for backend, engine in engines.items() if backend != "mysql"]
    service = FaultyService(
        tmp_path_factory.mktemp("doomed"),
        used,
        valkey=valkey,
        environment={"CLAIM_SECONDS": str(SHORT_CLAIM)},
    )
    with running(service, fronts=2, workers=2):
        yield service


@pytest.mark.fault(row="F1", quick=False)
@pytest.mark.parametrize("backend", ["postgresql", "snowflake"])
def test_kills_at_every_step_leave_nothing(
    doomed: FaultyService, engines: dict[str, Engine], ledger: Ledger, backend: str
) -> None:
    engine = engines[backend]
    kill_in_traffic(
        doomed,
        ledger,
        engine,
        "sandbox",
        web=(*creation_points(engine) * OWN_ROUNDS, *REQUESTS),
        worker=(*removal_points(engine, "sandbox") * OWN_ROUNDS, *KILL),
    )


@pytest.mark.fault(row="F1", quick=False)
@pytest.mark.parametrize("backend", ["postgresql", "snowflake"])
def test_kills_of_those_who_clean_up_leave_nothing(
    doomed: FaultyService, engines: dict[str, Engine], ledger: Ledger, backend: str
) -> None:
    engine = engines[backend]
    kill_who_cleans_up(
        doomed,
        ledger,
        engine,
        web=(*engine.drop["sandbox"], "create.failed") * OWN_ROUNDS,
        worker=(*engine.create, "create.active") * OWN_ROUNDS,
    )


@pytest.mark.fault(row="F1", quick=False)
def test_kills_on_redshift_leave_nothing(
    doomed: FaultyService, engines: dict[str, Engine], ledger: Ledger
) -> None:
    backends = doomed.installation.backends
    assert type(backends["redshift-workspace"]) is type(backends["postgresql"])
    kill_in_traffic(doomed, ledger, engines["redshift-workspace"], "sandbox", **SAMPLE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_point_of_the_backend_is_used(engines: dict[str, Engine], backend: str) -> None:
    """A point that is added to a backend has to be added to its engine's list here."""
    engine = engines[backend]
    package = "redshift" if backend == "postgresql" else backend.removesuffix("-workspace")
    source = "".join(
        file.read_text() for file in Path(TREE, "provisioning/backends", package).glob("*.py")
    )
    used = {*engine.create, *(point for points in engine.drop.values() for point in points)}
    used.update(engine.password)
    assert set(re.findall(r'failpoint\("([\w.]+)"\)', source)) == used
