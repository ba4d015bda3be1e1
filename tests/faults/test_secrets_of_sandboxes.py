"""The hunt for the secrets of sandboxes: tokens, passwords and scripts stay where they belong.

A script is its sandbox's content, so it is a file in there; its words must be nowhere else.
"""

import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import inspect, select

from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.valkey import Valkey
from provisioning.state.models import Base, Credentials, Job
from tests.faults.messages import Messages
from tests.faults.sandboxes import SandboxService, Visitor, environment_of
from tests.support.sandbox import run_in
from tests.support.sandboxes import objects_of
from tests.support.service import Service, running

SCRIPTED = "print('the launch code is 4711-tulip')"
WORDS = "4711-tulip"
#: What processes of a container see of each other.
PROCESSES = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    mariadb: MariaDB,
    valkey: Valkey,
    docker_engine: DockerEngine,
) -> Iterator[Service]:
    service = SandboxService(
        tmp_path_factory.mktemp("secrets"),
        mariadb=mariadb,
        valkey=valkey,
        environment=environment_of(docker_engine),
    )
    with running(service, dockers=1):
        yield service


def test_no_secret_of_a_sandbox_can_be_found_anywhere(
    service: Service, docker_engine: DockerEngine
) -> None:
    visitors = [Visitor(service, type_) for type_ in ("jupyter", "rstudio")]
    secrets, places = {WORDS}, {}
    for visitor in visitors:
        made = visitor.finish_well(visitor.order(SCRIPTED))["result"]["credentials"]
        secrets |= {str(visitor.client.token), made["password"]}
        places[f"{visitor.type}'s container"] = _container(docker_engine, made["id"])
        visitor.promised.add(made["id"])
    failed = Visitor(service)
    record = failed.finished(failed.order(f"# stub: exits\n{SCRIPTED}"))
    assert record["status"] == "error"
    secrets.add(str(failed.client.token))
    (worker,) = service.dockers
    worker.pause()
    try:
        # What waits for a worker is in the broker, and its request is in the state.
        waiting = Visitor(service)
        secrets.add(str(waiting.client.token))
        jobs = [(waiting, waiting.order(SCRIPTED))]
        jobs += [(v, v.order_drop(number)) for v in visitors for number in tuple(v.promised)]
        places["broker"] = Messages(service).content()
        assert f"[{jobs[-1][1]}]" in places["broker"], "the dump shows what messages carry"
        places["state while jobs wait"] = "\n".join(_state(service))
        places["processes"] = _processes()
        assert None not in _requests(service, jobs[0][1])
    finally:
        worker.resume()
    for visitor, job in jobs:
        visitor.finish_well(job)
        shown = visitor.client.get(f"/queue/job/{job}").body
        # A creation's caller is told the password (contract 8.1).
        shown["result"].pop("credentials", None)
        places[f"record of job {job}"] = str(shown)
    places["record of the failed job"] = str(record)
    places["state"] = "\n".join(_state(service))
    assert _dropped_secrets(service) == {""} and _requests(service) == {None}
    places["logs"] = service.logs()
    assert all(places.values())
    hits = [
        f"{place}: a secret of {len(secret)} characters"
        for place, text in places.items()
        for secret in secrets
        if secret in text
    ]
    assert not hits, "\n".join(hits)


def test_the_hunt_looks_into_containers_and_processes(
    service: Service, docker_engine: DockerEngine
) -> None:
    """Without this it could look in the wrong places and be content."""
    visitor = Visitor(service)
    number = visitor.create()["id"]
    container = objects_of(docker_engine, number)[0]
    container.exec_run(["sh", "-c", "echo written-out > /proc/1/fd/1"])
    container.exec_run(["sleep", "300.25"], detach=True, environment={"CARRIED": "in-the-open"})
    found = _container(docker_engine, number)
    assert "written-out" in found and "in-the-open" in found and "sleep 300.25" in found
    assert f"'provisioning.credentials': '{number}'" in found
    assert "sleep 300.25" in _processes()
    state = "\n".join(_state(service))
    assert str(visitor.type) in state and str(number) in state
    assert f'"credentials": {number}' in service.logs()


def _container(engine: DockerEngine, number: int) -> str:
    """Return all that the engine and its container show of a sandbox, without its files."""
    container, network = objects_of(engine, number)
    seen = (
        engine.client().api.inspect_container(container.id),
        network.attrs,
        container.top(ps_args="-eww -o pid,args"),
        container.logs().decode(),
        run_in(container, "sh", "-c", PROCESSES, user="1000")[1],
        run_in(container, "sh", "-c", PROCESSES, user="0")[1],
    )
    return "\n".join(map(str, seen))


def _processes() -> str:
    """Return the command lines of all processes, as every user of the machine sees them."""
    done = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    return done.stdout


def _state(service: Service) -> Iterator[str]:
    """Return every value of every table, encrypted ones as they are kept."""
    with service.installation.database.read() as session:
        for name in inspect(session.connection()).get_table_names():
            if name in Base.metadata.tables:
                for row in session.execute(select(Base.metadata.tables[name])):
                    yield " ".join(map(str, row))


def _dropped_secrets(service: Service) -> set[str]:
    with service.installation.database.read() as session:
        query = select(Credentials.secret).where(Credentials.dropped_at.is_not(None))
        return set(session.scalars(query))


def _requests(service: Service, job: int | None = None) -> set[str | None]:
    """Return the sealed requests of one job or of all."""
    query = select(Job.request) if job is None else select(Job.request).where(Job.id == job)
    with service.installation.database.read() as session:
        return set(session.scalars(query))
