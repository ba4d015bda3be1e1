"""The broker is killed and restarted, and its connections are cut, under load."""

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from devstack.rabbitmq import RabbitMQ
from devstack.valkey import Valkey
from provisioning.state.enums import UNFINISHED_JOBS
from provisioning.state.models import Job
from tests.faults.callers import Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.load import Load
from tests.faults.oracle import Oracle
from tests.faults.proxy import Proxy
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.deadlines import TEST_DEADLINE, bar, wait_until
from tests.support.service import running

#: Seconds after the broker's return within which all jobs of before are done.
CATCH_UP = bar(15.0)
#: How often it is killed, and how often its connections are cut.
ROUNDS = int(os.environ.get("BROKER_ROUNDS", "1"))


@pytest.fixture(params=[Valkey, RabbitMQ])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Valkey | RabbitMQ]:
    """A broker of our own to kill."""
    kind: type[Valkey] | type[RabbitMQ] = request.param
    if kind.missing():
        pytest.skip(f"{kind.name} is not installed")
    with kind(tmp_path_factory.mktemp(kind.name)) as server:
        yield server


@pytest.fixture
def proxy(broker: Valkey | RabbitMQ) -> Iterator[Proxy]:
    """The service's way to the broker."""
    proxy = Proxy()
    proxy.open(broker.port)
    yield proxy
    proxy.close()


@pytest.mark.fault(row="F25")
@pytest.mark.timeout(TEST_DEADLINE)
def test_all_jobs_end_soon_after_the_broker_is_back(
    tmp_path_factory: pytest.TempPathFactory,
    mysql: MySQLEngine,
    valkey: Valkey,
    broker: Valkey | RabbitMQ,
    proxy: Proxy,
    ledger: Ledger,
    chaos_row: Record,
) -> None:
    service = FaultyService(
        tmp_path_factory.mktemp("restarted"),
        [mysql],
        valkey=valkey,
        environment={"BROKER_URL": broker.url.replace(f":{broker.port}/", f":{proxy.port}/")},
    )
    load = Load(service, ledger, mysql)

    def kill(number: int) -> None:
        proxy.cut()
        broker.kill()
        if number % 2 == 0:
            # RabbitMQ keeps its queues otherwise.
            shutil.rmtree(broker.data)
        wait_until(lambda: _broker_state(service) == "unavailable", what="readiness says so")
        load.run_for(2)
        broker.start()
        proxy.open(broker.port)

    def cut(_: int) -> None:
        proxy.cut()
        proxy.open(broker.port)

    with running(service, fronts=2, workers=2):
        processes = _processes(service)
        with load.flowing(clients=4):
            load.wait_good(0, 20)
            for number in range(ROUNDS):
                for fault in (kill, cut):
                    fault(number)
                    seconds = _wait_done(service, load)
                    chaos_row.note("all jobs done {:.1f} s after the broker's return", seconds)
        assert _processes(service) == processes
        assert not load.not_plain_outages()
        chaos_row.rounds = chaos_row.kills = ROUNDS
        Oracle(service, ledger).assert_clean()


def _wait_done(service: FaultyService, load: Load) -> float:
    """Return the seconds from now, the broker's return, until all jobs of before are done."""
    back = time.monotonic()
    newest = _newest_job(service)
    wait_until(lambda: not _unfinished(service, newest), timeout=CATCH_UP, what="the jobs' ends")
    seconds = time.monotonic() - back
    load.wait_served(back, CATCH_UP)
    wait_until(lambda: _broker_state(service) == "ok", what="readiness says so")
    return seconds


def _newest_job(service: FaultyService) -> int:
    with service.installation.database.read() as session:
        return session.execute(select(func.max(Job.id))).scalar_one()


def _unfinished(service: FaultyService, newest: int) -> int:
    query = select(func.count()).where(Job.status.in_(UNFINISHED_JOBS), Job.id <= newest)
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one()


def _broker_state(service: FaultyService) -> str:
    answer = service.anonymous().get("/health/ready")
    assert answer.status == 200, answer
    state: str = answer.body.get("broker", "ok")
    return state


def _processes(service: FaultyService) -> list[int]:
    return [process.pid for process in (*service.fronts, *service.workers, *service.beats)]
