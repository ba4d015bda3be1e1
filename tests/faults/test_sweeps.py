"""Expiry and recovery with several schedulers."""

from devstack.processes import wait_until
from provisioning.states import JobStatus
from tests.faults.callers import Caller, Ledger
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, jobs_of, wait_dropped
from tests.faults.stack import FaultyService

TYPES = ("sandbox", "transformations")


def test_three_schedulers_and_two_workers_act_once_on_each_row(
    service: FaultyService, oracle: Oracle, ledger: Ledger
) -> None:
    callers = [Caller(service, ledger) for _ in range(30)]
    numbers = [int(caller.create(TYPES[n % 2])["id"]) for n, caller in enumerate(callers)]
    others = [service.start_beat() for _ in range(2)]
    wait_until(
        lambda: all(other.log.exists() and other.running for other in others),
        timeout=10,
        what="three schedulers",
    )
    expire(service, numbers)
    wait_dropped(service, numbers)
    jobs = jobs_of(service, numbers)
    assert sorted(job.credentials_id for job in jobs) == sorted(numbers)
    assert {(job.status, job.attempts) for job in jobs} == {(JobStatus.SUCCESS, 1)}
    for number in numbers:
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    oracle.assert_clean()
    for other in others:
        other.stop()
        service.beats.remove(other)
