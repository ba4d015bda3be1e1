"""P5: GET of one credential with ``inUse``, and how often a server is asked for its sessions."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import cycle
from typing import Any

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.creating import make_credentials
from benchmarks.figures import Bar, Figure, p50, p99
from benchmarks.load import lasting, request, run_load

CLIENTS = 4
CREDENTIALS = 20
#: Seconds of load before the steady state is measured: the spare pictures that a quiet time
#: leaves are used up within the first of them.
WARM_UP_SECONDS = 2.0
#: Seconds of each leg that counts: long enough for a few pictures a second apart.
COUNTING_SECONDS = 4.0


def measure(bench: Bench) -> list[Figure]:
    """Milliseconds, and queries per second, of one front process under steady load.

    Half of the credentials have a session open. The queries are counted in the server's
    general log, which is on only in legs of their own, because it slows everything.
    """
    with ExitStack() as stack:
        stack.enter_context(raw.restored(bench.admin))
        requests = cycle(_requests_for_used_and_unused(bench, stack))
        port = bench.service.start_front("web-alone", 1)
        stack.callback(bench.service.processes["web-alone"].stop)
        # The front has just started, so it has all the spare pictures that quiet gives.
        with _general_log(bench.admin) as log:
            _get(port, requests, WARM_UP_SECONDS)
        first = log.moments()
        burst = sum(moment - first[0] < 1.0 for moment in first)
        medians, tails, rates = [], [], []
        for _ in range(bench.sizes.rounds):
            times = _get(port, requests, bench.sizes.reading_seconds)
            medians.append(p50(times))
            tails.append(p99(times))
            with _general_log(bench.admin) as log:
                _get(port, requests, COUNTING_SECONDS)
            rates.append(_per_second(log.moments()))
    return [
        Figure("P5", "GET detail with inUse, 4 clients, one front process, p50", "ms", medians,
               aim=Bar(8)),
        Figure("P5", "the same, p99", "ms", tails),
        Figure("P5", "session queries per server and front process, steady load", "/s", rates,
               aim=Bar(1.05)),
        Figure("P5", "session queries in the first second of load after quiet", "", [burst]),
    ]  # fmt: skip


def _requests_for_used_and_unused(bench: Bench, stack: ExitStack) -> list[bytes]:
    """Create credentials, open a session of every other one, return the GET of each."""
    made = make_credentials(bench, CREDENTIALS)
    for one in made[::2]:
        session = raw.connect(bench.mariadb, one.user, one.password, one.database)
        stack.callback(session.close)
    return [request("GET", f"/provisioning/mysql/{one.id}", one.token) for one in made]


def _get(port: int, requests: Iterator[bytes], seconds: float) -> list[float]:
    return run_load(port, lasting(seconds, requests), clients=CLIENTS, status=200).times


class _general_log:  # noqa: N801 (it reads as the block it makes)
    """Counts the queries for sessions that the server gets during a block."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin
        self._moments: list[datetime] = []

    def __enter__(self) -> "_general_log":
        raw.run(
            self._admin,
            "SET GLOBAL log_output = 'TABLE'",
            "TRUNCATE mysql.general_log",
            "SET GLOBAL general_log = ON",
        )
        return self

    def __exit__(self, *exception: object) -> None:
        raw.run(self._admin, "SET GLOBAL general_log = OFF")
        rows = raw.run(
            self._admin,
            "SELECT event_time FROM mysql.general_log WHERE command_type = 'Query' "
            "AND argument LIKE 'SELECT DISTINCT user, db FROM %processlist%' ORDER BY 1",
        )
        self._moments = [moment for (moment,) in rows]

    def moments(self) -> list[float]:
        """Return when the queries came, in seconds."""
        return [moment.timestamp() for moment in self._moments]


def _per_second(moments: list[float]) -> float:
    """Return the rate from the first query to the last."""
    if len(moments) < 2:
        return 0.0
    return (len(moments) - 1) / (moments[-1] - moments[0])
