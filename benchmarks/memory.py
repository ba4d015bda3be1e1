"""P17: resident memory of the service's processes while they have nothing to do."""

from pathlib import Path

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.creating import create_over_http, make_credentials
from benchmarks.figures import Bar, Figure
from benchmarks.load import request, run_load
from devstack.processes import descendants

#: Enough connections and requests that every front process has answered some.
CLIENTS, REQUESTS = 16, 64


def measure(bench: Bench) -> list[Figure]:
    """Megabytes (RSS, and PSS, which counts shared pages in part) after the first requests.

    All code that the processes use is loaded by then: each front has created, and the worker
    has run jobs.
    """
    _use_everything(bench)
    web = bench.service.processes["web"].pid
    worker = bench.service.processes["worker"].pid
    beat = bench.service.processes["beat"].pid
    fronts = descendants(web)
    return [
        Figure("P17", "idle front process, RSS", "MB", megabytes("Rss", fronts), aim=Bar(100)),
        Figure("P17", "idle front process, PSS", "MB", megabytes("Pss", fronts)),
        Figure("P17", "idle worker process, RSS", "MB", megabytes("Rss", [worker]), aim=Bar(100)),
        Figure("P17", "idle worker process, PSS", "MB", megabytes("Pss", [worker])),
        Figure("P17", "front's parent process, RSS", "MB", megabytes("Rss", [web])),
        Figure("P17", "beat process, RSS", "MB", megabytes("Rss", [beat])),
    ]


def _use_everything(bench: Bench) -> None:
    """Create, read and drop, over so many connections that every front answers some."""
    with raw.restored(bench.admin):
        create_over_http(bench, REQUESTS, CLIENTS)
        for one in make_credentials(bench, 5):
            reads = [request("GET", f"/provisioning/mysql/{one.id}", one.token)] * REQUESTS
            run_load(bench.service.port, reads, clients=CLIENTS, status=200)
            drop = request("DELETE", f"/provisioning/mysql/{one.id}", one.token)
            run_load(bench.service.port, [drop], clients=1, status=200)


def megabytes(kind: str, pids: list[int]) -> list[float]:
    """Return the memory of processes: ``kind`` is ``Rss`` or ``Pss``."""
    return [_kilobytes(kind, pid) / 1000 for pid in pids]


def _kilobytes(kind: str, pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no {kind}")
