"""/metrics: right over all processes of a front, and for the token alone."""

import os
import signal
import urllib.request
from collections import defaultdict
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devstack.mariadb import MariaDB
from devstack.ports import HeldPort
from devstack.processes import Process, descendants
from devstack.valkey import Valkey
from tests.contract.expectations import require_error
from tests.faults.rows import wait_swept
from tests.support.client import Answer
from tests.support.deadlines import wait_until
from tests.support.service import Service, running

TOKEN = "a-token-of-prometheus"
#: Sums of the samples of one name, by the label that a test looks at.
Sums = dict[str, float]


class TwoProcesses(Service):
    """Each front has two processes, between which the system shares connections out."""

    def _run(self, process: Process, kind: str, extra: dict[str, str]) -> None:
        super()._run(process, kind, {**extra, "WEB_PROCESSES": "2"})


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, valkey: Valkey
) -> Iterator[Service]:
    """A front of two processes, a worker and a beat."""
    port = HeldPort()
    service = TwoProcesses(
        tmp_path_factory.mktemp("measured"),
        mariadb=mariadb,
        valkey=valkey,
        environment={
            "METRICS_TOKEN": TOKEN,
            "METRICS_LISTEN": f"127.0.0.1:{port.number}",
            "MYSQL_URL": f"{mariadb.url}?max_credentials=50",
            "DRAIN_SECONDS": "0",
        },
    )
    with running(service, workers=1, beats=1):
        yield service
    port.release()


def scrape(service: Service) -> Answer:
    return service.anonymous().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})


def read(text: str, name: str, label: str = "") -> Sums:
    sums: Sums = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                sums[sample.labels.get(label, "")] += sample.value
    return sums


def test_nobody_else_is_told(measured: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer \xff"}):
        answer = measured.anonymous().get("/metrics", headers=headers)
        require_error(answer, 404, "route_not_found", "Route not found")


def test_the_processes_of_a_front_count_together(measured: Service) -> None:
    """Also what was counted by one that has died."""
    before = read(scrape(measured).text, "provisioning_requests_total", "status")
    for _ in range(12):
        assert measured.anonymous().get("/provisioning/mysql").status == 400
    children = descendants(measured.fronts[0].pid)
    os.kill(children[0], signal.SIGKILL)
    wait_until(
        lambda: len(set(descendants(measured.fronts[0].pid)) - {children[0]}) == len(children),
        what="another process in its place",
    )
    for _ in range(12):
        assert measured.anonymous().get("/provisioning/mysql").status == 400
    after = read(scrape(measured).text, "provisioning_requests_total", "status")
    assert after["400"] - before["400"] == 24


def test_creations_removals_and_what_the_state_knows(measured: Service) -> None:
    wait_swept(measured)
    client = measured.client()
    kept, gone = client.create("sandbox"), client.create("transformations")
    assert client.delete(f"/provisioning/mysql/{gone['id']}").body == {"status": "ok"}
    text = scrape(measured).text
    assert read(text, "provisioning_events_total", "action")["credentials.created"] == 2
    assert read(text, "provisioning_credentials", "backend")["mysql"] == 1
    assert read(text, "provisioning_credentials_maximum", "server")["default"] == 50
    assert 0 <= read(text, "provisioning_sweep_age_seconds")[""] < 60
    for up in ("provisioning_broker_up", "provisioning_state_up"):
        assert read(text, up)[""] == 1
    assert kept["credentials"]["password"] not in text
    # The worker has dropped it.
    where = measured.environment["METRICS_LISTEN"]
    with urllib.request.urlopen(f"http://{where}/metrics") as answer:
        events = read(answer.read().decode(), "provisioning_events_total", "action")
    assert events["credentials.dropped"] == 1


def test_waiting_jobs_are_told_with_their_age(measured: Service) -> None:
    (worker,) = measured.workers
    worker.pause()
    try:
        client = measured.client()
        path = f"/provisioning/mysql/{client.create()['id']}"
        assert client.delete(path, headers={"Prefer": "respond-async"}).status == 202
        text = scrape(measured).text
        assert read(text, "provisioning_jobs", "status")["waiting"] == 1
        assert read(text, "provisioning_queue_age_seconds", "backend")["mysql"] >= 0
    finally:
        worker.resume()
    wait_until(
        lambda: not read(scrape(measured).text, "provisioning_jobs"), what="no unfinished job"
    )
