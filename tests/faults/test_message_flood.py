"""Sweeps while the workers of a queue are away, and when they come."""

from pathlib import Path

from sqlalchemy import func, select

from devstack.valkey import Valkey
from provisioning.state.database import next_numbers
from provisioning.state.enums import UNFINISHED_JOBS, CredentialsState, JobCommand, JobStatus
from provisioning.state.models import Credentials, Job
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.messages import Messages
from tests.faults.stack import FaultyService
from tests.support.deadlines import LONG_DEADLINE, wait_until
from tests.support.service import running

#: More than one sweep sends for.
JOBS = 230
SWEEPS = 12
DOCKER_QUEUE = "provisioning-docker"


def test_messages_for_workers_that_are_away_do_not_pile_up(
    service_directory: Path, mysql: MySQLEngine, valkey: Valkey, ledger: Ledger
) -> None:
    environment = {"SWEEP_SECONDS": "3600", "JOB_ATTEMPTS": "1"}
    service = FaultyService(service_directory, [mysql], valkey=valkey, environment=environment)
    with running(service, beats=0):
        caller = Caller(service, ledger)
        made = int(caller.create()["id"])
        # There is no engine of sandboxes, so these end in an error at their first attempt.
        record_kills(service, "docker", JOBS, sandbox(service))
        record_kills(service, "mysql", 5, made)
        messages = Messages(service)
        messages.send_sweep()
        wait_until(
            lambda: unfinished(service, "mysql") == 0, timeout=LONG_DEADLINE, what="the kills"
        )
        for _ in range(SWEEPS):
            messages.send_sweep()
        wait_until(lambda: messages.waiting() == 0, timeout=LONG_DEADLINE, what="the sweeps' start")
        # It ends when its sweeps have ended.
        service.workers[0].stop()
        assert 200 <= messages.waiting(DOCKER_QUEUE) <= 300
        assert unfinished(service, "docker") == JOBS
        service.start_docker()
        wait_until(
            lambda: unfinished(service, "docker") <= JOBS - 200,
            timeout=LONG_DEADLINE,
            what="200 jobs",
        )
        service.restart(service.workers[0])
        messages.send_sweep()
        wait_until(
            lambda: unfinished(service, "docker") == 0, timeout=LONG_DEADLINE, what="all jobs"
        )


def unfinished(service: FaultyService, backend: str) -> int:
    query = select(func.count()).where(Job.status.in_(UNFINISHED_JOBS), Job.backend == backend)
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one()


def sandbox(service: FaultyService) -> int:
    """Record a sandbox without making any of it."""
    number = service.installation.numbers.take()
    with service.installation.database.write() as session:
        session.add(
            Credentials(
                id=number,
                backend="docker",
                type="jupyter",
                state=CredentialsState.ACTIVE,
                project_id="70",
                project_name="",
                token_id="1",
                token_description="",
                server="default",
                user_name="u",
                object_name="o",
                secret="",
                created_at=1,
                touched_at=1000,
            )
        )
    return number


def record_kills(service: FaultyService, backend: str, amount: int, credentials_id: int) -> None:
    """Record jobs without a message for them, each with its own slot."""
    with service.installation.database.write() as session:
        session.add_all(
            Job(
                id=number,
                run_id=str(number),
                command=JobCommand.KILL,
                status=JobStatus.WAITING,
                backend=backend,
                params={},
                result={},
                credentials_id=credentials_id,
                slot=f"{number}:{backend}",
                project_id="70",
                project_name="",
                token_id="1",
                token_description="",
                created_at=1,
            )
            for number in next_numbers(session, "ticket", amount)
        )
