"""P6: ending access for good, against the same SQL without looking."""

import math
from contextlib import ExitStack

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.creating import make_credentials
from benchmarks.figures import Bar, Figure, p50, ratios
from benchmarks.load import request, run_load
from provisioning.backends.base import Spec
from provisioning.state.claims import Lease
from provisioning.state.models import Credentials

TYPE = "transformations"


def measure(bench: Bench) -> list[Figure]:
    """Milliseconds of a drop; each login has one session open and one table.

    The verb of the backend and raw take turns, one drop at a time. A DELETE over HTTP, which
    runs on a worker, is shown beside them.
    """
    verb, reference, delete = [], [], []
    for _ in range(bench.sizes.rounds):
        times = _drop_in_turns(bench)
        verb.append(p50(first for first, _ in times))
        reference.append(p50(second for _, second in times))
        delete.append(p50(_delete_over_http(bench)))
    return [
        Figure("P6", "drop verb: end sessions, drop, look; p50 / raw", "x",
               ratios(verb, reference), aim=Bar(2.5)),
        Figure("P6", "drop verb, p50", "ms", verb),
        Figure("P6", "raw: list, KILL, DROP USER, DROP DATABASE, p50", "ms", reference),
        Figure("P6", "DELETE over HTTP until 200, p50", "ms", delete),
    ]  # fmt: skip


def _drop_in_turns(bench: Bench) -> list[tuple[float, float]]:
    backend = bench.service.installation.backends["mysql"]
    lease = Lease(Credentials, 0, 1, math.inf)
    times = []
    with ExitStack() as stack:
        pairs = [
            (_used_login(bench, stack), _used_login(bench, stack))
            for _ in range(bench.sizes.removals)
        ]
        for first, second in pairs:
            spec = Spec(0, TYPE, "default", first, first)
            times.append(
                (
                    raw.timed(lambda spec=spec: backend.drop(spec, lease)),  # type: ignore[misc]
                    raw.timed(lambda name=second: raw.end(bench.admin, name)),  # type: ignore[misc]
                )
            )
    return times


def _used_login(bench: Bench, stack: ExitStack) -> str:
    """Make a login with an open session and a table; return its name."""
    name = raw.new_name()
    raw.create(bench.admin, name)
    _use(bench, stack, name, raw.PASSWORD, name)
    return name


def _use(bench: Bench, stack: ExitStack, user: str, password: str, database: str) -> None:
    session = raw.open_session(bench.mariadb, user, password, database)
    # It is killed on the server; here only the socket is left.
    stack.callback(session._force_close)


def _delete_over_http(bench: Bench) -> list[float]:
    made = make_credentials(bench, bench.sizes.removals)
    with ExitStack() as stack:
        for one in made:
            _use(bench, stack, one.user, one.password, one.database)
        requests = [request("DELETE", f"/provisioning/mysql/{one.id}", one.token) for one in made]
        return run_load(bench.service.port, requests, clients=1, status=200).times
