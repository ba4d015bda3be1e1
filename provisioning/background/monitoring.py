"""What the state knows, for Prometheus: the same in every process, read at each scrape."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import func, select

from provisioning.backends.servers.admin_rotation import known_servers
from provisioning.credentials.administration import count_credentials
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation
from provisioning.orphans.comparison import STUCK_TRIES
from provisioning.orphans.restore import last_sweep
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Job


def read_metrics(
    installation: Installation, broker_answers: Callable[[], bool], *, shared: bool
) -> bytes:
    """Return all metrics in Prometheus's text form.

    ``shared`` is whether the counts of several processes lie in files.
    """
    registry = CollectorRegistry()
    if shared:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(StateCollector(installation, broker_answers))
    own = b"" if shared else generate_latest(REGISTRY)
    return own + generate_latest(registry)


class StateCollector(Collector):
    """Reads the state database and asks the broker at each scrape."""

    def __init__(self, installation: Installation, broker_answers: Callable[[], bool]) -> None:
        self._installation = installation
        self._broker_answers = broker_answers

    def collect(self) -> Iterator[Metric]:
        yield _one("broker_up", "1 if the broker answers.", self._broker_answers())
        try:
            found = [*self._jobs(), *self._credentials(), *self._removals(), self._sweep()]
        except StateUnavailable:
            yield _one("state_up", "1 if the state database answers.", 0)
            return
        yield _one("state_up", "1 if the state database answers.", 1)
        yield from found

    def _jobs(self) -> Iterator[Metric]:
        jobs = _gauge("jobs", "Unfinished jobs.", "backend", "status")
        age = _gauge("queue_age_seconds", "Age of the oldest unfinished job.", "backend")
        query = (
            select(Job.backend, Job.status, func.count(), func.min(Job.created_at))
            .where(Job.ended_at.is_(None))
            .group_by(Job.backend, Job.status)
        )
        with self._installation.database.read() as session:
            now, rows = read_clock(session), session.execute(query).all()
        oldest: dict[str, int] = {}
        for backend, status, count, created_at in rows:
            jobs.add_metric([backend, str(status)], count)
            oldest[backend] = min(oldest.get(backend, now), created_at)
        for backend, created_at in oldest.items():
            age.add_metric([backend], (now - created_at) / 1000)
        yield from (jobs, age)

    def _credentials(self) -> Iterator[Metric]:
        counts = count_credentials(self._installation.database)
        live = _gauge("credentials", "Live credentials.", "backend", "server")
        leaving = _gauge("credentials_leaving", "Being removed.", "backend", "server")
        maximum = _gauge("credentials_maximum", "max_credentials.", "backend", "server")
        for place, count in counts.items():
            live.add_metric(place, count.live)
            leaving.add_metric(place, count.leaving)
        for backend, server in known_servers(self._installation):
            if server.max_credentials:
                maximum.add_metric([backend, server.name], server.max_credentials)
        yield from (live, leaving, maximum)

    def _removals(self) -> Iterator[Metric]:
        stuck = _gauge("stuck_removals", "Removals that were tried in vain.", "backend", "server")
        query = (
            select(Credentials.backend, Credentials.server, func.count())
            .where(
                Credentials.state == CredentialsState.DROPPING,
                Credentials.attempts >= STUCK_TRIES,
            )
            .group_by(Credentials.backend, Credentials.server)
        )
        with self._installation.database.read() as session:
            for backend, server, count in session.execute(query):
                stuck.add_metric([backend, server], count)
        yield stuck

    def _sweep(self) -> Metric:
        swept = last_sweep(self._installation.database)
        with self._installation.database.read() as session:
            age = (read_clock(session) - swept) / 1000
        return _one("sweep_age_seconds", "Time since the last sweep.", age)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"provisioning_{name}", text, labels=labels)


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"provisioning_{name}", text, value=value)
