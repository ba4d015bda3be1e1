"""Jobs that kill every worker that takes them up end, and leave nothing behind."""

from pathlib import Path

import pytest

from devstack.valkey import Valkey
from provisioning.state.models import Job
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import running

ATTEMPTS = 2
#: Where the worker dies: within the job's work on the server.
POINT = "drop.locked"


@pytest.mark.fault(row="F1", quick=False)
def test_a_job_that_kills_its_worker_each_time_is_given_up(
    service_directory: Path, mysql: MySQLEngine, valkey: Valkey, ledger: Ledger
) -> None:
    environment = {"CLAIM_SECONDS": "1", "JOB_ATTEMPTS": str(ATTEMPTS)}
    service = FaultyService(service_directory, [mysql], valkey=valkey, environment=environment)
    with running(service):
        caller = Caller(service, ledger)
        body = caller.create()
        service.points["worker"].arm(POINT)
        job = caller.drop_later(body["id"])
        assert job is not None
        for attempt in range(1, ATTEMPTS + 1):
            service.points["worker"].wait_taken(POINT)
            assert attempts_of(service, job) == attempt
            # Nobody can take it up before the next worker starts.
            service.points["worker"].arm(POINT)
            wait_until(lambda: not service.workers[0].running, what="a dead worker")
            service.restart(service.workers[0])
        record = caller.wait_for_job(job)
        assert service.points["worker"].armed(POINT), "another attempt was made"
        assert (record["status"], record["error"]) == ("error", "application")
        assert record["attempts"] == ATTEMPTS + 1 and "notBefore" not in record
        assert "died" not in str(record["result"])
        assert service.workers[0].running
        service.points["worker"].disarm()
        # The credential is visible again, as after every delete that failed.
        connect_as(caller.ask("GET", f"/provisioning/mysql/{body['id']}").body["credentials"])
        caller.drop(body["id"])
        Oracle(service, ledger).assert_clean()


def attempts_of(service: FaultyService, job: int) -> int:
    with service.installation.database.read() as session:
        return session.get_one(Job, job).attempts
