"""P13: how long an accepted job waits for an idle worker."""

import time
from collections.abc import Iterator

from sqlalchemy import func, select

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.creating import make_credentials
from benchmarks.figures import Bar, Figure, p50, p99
from benchmarks.load import request, run_load
from provisioning.state.models import Job

#: Pause between two jobs in seconds, so that each finds the worker idle.
PAUSE = 0.02
WARM_UP_JOBS = 5


def measure(bench: Bench) -> list[Figure]:
    """Milliseconds from a job's ``created_at`` to its ``started_at``, as its row has them.

    The jobs are kills of one credential without sessions, one after the other.
    """
    with raw.restored(bench.admin):
        (made,) = make_credentials(bench, 1)
        kill = request("POST", f"/provisioning/mysql/{made.id}/kill", made.token)
        _run_jobs(bench, kill, WARM_UP_JOBS)
        rounds = [_run_jobs(bench, kill, bench.sizes.jobs) for _ in range(bench.sizes.rounds)]
    return [
        Figure("P13", "job accepted until a worker starts it, idle, p50", "ms",
               [p50(delays) for delays in rounds], aim=Bar(15), gate=Bar(30)),
        Figure("P13", "the same, p99 (of all rounds together)", "ms",
               [p99(delay for delays in rounds for delay in delays)], aim=Bar(100)),
    ]  # fmt: skip


def _run_jobs(bench: Bench, kill: bytes, amount: int) -> list[float]:
    """Run jobs and return how long each waited."""
    database = bench.service.installation.database
    with database.read() as session:
        last = session.execute(select(func.coalesce(func.max(Job.id), 0))).scalar_one()
    run_load(bench.service.port, _paused(kill, amount), clients=1, status=200)
    query = select(Job.started_at - Job.created_at).where(Job.id > last)
    with database.read() as session:
        # All of them have started, since their requests were answered.
        return [float(delay or 0) for (delay,) in session.execute(query)]


def _paused(message: bytes, amount: int) -> Iterator[bytes]:
    for _ in range(amount):
        time.sleep(PAUSE)
        yield message
