"""What each process counts, for Prometheus; what the state knows is in `background.monitoring`.

The processes of a front share their counts through files, if `PROMETHEUS_MULTIPROC_DIR` is set
before this module is loaded.
"""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "provisioning_requests_total", "Answered requests.", ("method", "route", "status")
)
REQUEST_SECONDS = Histogram(
    "provisioning_request_seconds",
    "Time from the first byte of a request to its answer.",
    ("route",),
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
#: Creations, removals and jobs, by how they ended: the actions of the audit.
EVENTS = Counter("provisioning_events_total", "Events of the audit.", ("action", "backend"))
CIRCUIT_OPEN = Gauge(
    "provisioning_circuit_open",
    "1 while calls to a server fail at once, because it did not answer.",
    ("server",),
    multiprocess_mode="livemax",
)
ORPHANS = Gauge(
    "provisioning_orphans",
    "What the last comparison of this process found on one side alone.",
    ("kind",),
    multiprocess_mode="livemostrecent",
)
