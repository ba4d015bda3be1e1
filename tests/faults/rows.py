"""What tests do to rows, and read of them, in the state database itself."""

from sqlalchemy import func, select, update

from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Job, Login, Sequence
from tests.faults.oracle import Oracle
from tests.faults.stack import SETTLE
from tests.support.deadlines import wait_until
from tests.support.service import Service


def expire(service: Service, numbers: list[int]) -> None:
    """Let the credentials have ended a second ago, by the state database's clock."""
    statement = (
        update(Credentials).where(Credentials.id.in_(numbers)).values(expires_at=now_ms() - 1000)
    )
    with service.installation.database.write() as session:
        session.execute(statement)


def wait_dropped(service: Service, numbers: list[int], *, timeout: float = SETTLE) -> None:
    wait_until(
        lambda: count_dropped(service, numbers) == len(numbers), timeout=timeout, what="all dropped"
    )


def count_dropped(service: Service, numbers: list[int]) -> int:
    query = select(func.count()).where(
        Credentials.id.in_(numbers), Credentials.state == CredentialsState.DROPPED
    )
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one()


def jobs_of(service: Service, numbers: list[int]) -> list[Job]:
    query = select(Job).where(Job.credentials_id.in_(numbers))
    with service.installation.database.read() as session:
        return list(session.scalars(query))


def wait_swept(service: Service, sweeps: int = 1) -> None:
    """Wait until workers have swept so many times more."""
    query = select(Sequence.value).where(Sequence.name == "clock")

    def clock() -> int:
        with service.installation.database.read() as session:
            return session.execute(query).scalar_one()

    seen = {clock()}

    def enough() -> bool:
        seen.add(clock())
        return len(seen) > sweeps

    wait_until(enough, timeout=SETTLE, what=f"{sweeps} sweeps")


def picture(oracle: Oracle) -> tuple[object, ...]:
    """Return all that a late process might change: rows, and what is on the server."""
    columns = (
        Credentials.id,
        Credentials.state,
        Credentials.slot,
        Credentials.claim_token,
        Credentials.secret,
        Credentials.failure,
        Credentials.attempts,
    )
    jobs = (Job.id, Job.status, Job.attempts, Job.claim_token, Job.ended_at)
    with oracle.installation.database.read() as session:
        rows = session.execute(select(*columns).order_by(Credentials.id)).all()
        logins = session.execute(select(Login.id, Login.secret).order_by(Login.id)).all()
        queue = session.execute(select(*jobs).order_by(Job.id)).all()
    found = [
        (inventory.objects, inventory.logins, inventory.grants)
        for engine in oracle.engines.values()
        if (inventory := engine.take_inventory(oracle.installation.prefix))
    ]
    return rows, logins, queue, found
