"""Sandboxes over HTTP: made, found, extended, dropped and killed by jobs (contract 8, 9).

The containers are stubs that keep the contract of sandbox images; `tests/images` has the
real ones.
"""

import csv
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.docker import DockerEngine
from provisioning.credentials.warnings import LOOK_AHEAD
from provisioning.state.database import read_clock
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import finished_job, require_error, require_not_found
from tests.contract.test_jobs import require_record
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, LONG_DEADLINE, wait_until
from tests.support.docker_engine import remove_all_but_images
from tests.support.sandboxes import docker_url, objects_of, page
from tests.support.service import Service

ASYNC = "/provisioning/async/docker"
ORDERS = "in.c-main.orders"
ROWS = 1000
DAY = 86_400_000
#: Seconds after which an impatient service gives a sandbox up.
READY = 2
CONFIGURATION = {
    "rows": [
        {
            "id": "6789",
            "configuration": {
                "backend": "docker",
                "type": "python",
                "queries": ["\ufeffimport csv", "print(6 * 7)"],
                "packages": ["tiny"],
                "tags": ["model"],
                "input": [{"source": ORDERS, "destination": "orders.csv", "limit": 5}],
            },
        },
        {"id": "7", "configuration": {"backend": "docker", "type": "r", "queries": ["6 * 7"]}},
        {"id": "8", "configuration": {"backend": "mysql", "type": "simple", "queries": []}},
    ]
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a table, files and two versions of a configuration."""
    directory = tmp_path_factory.mktemp("storage")
    (directory / "tables").mkdir()
    with (directory / "tables" / f"{ORDERS}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "price"])
        writer.writerows([number, f'"{number}" CZK'] for number in range(ROWS))
    (directory / "files").mkdir()
    for number, tag in ((1, "old"), (2, "model"), (3, "model")):
        (directory / "files" / f"{number}_model.bin").write_bytes(f"file {number}".encode())
        (directory / "files" / f"{number}_model.bin.json").write_text(json.dumps({"tags": [tag]}))
    versions = directory / "configurations" / "sys.c-tr"
    versions.mkdir(parents=True)
    (versions / "4.json").write_text(json.dumps(CONFIGURATION))
    older = json.loads(json.dumps(CONFIGURATION).replace("print(6 * 7)", "print('older')"))
    (versions / "3.json").write_text(json.dumps(older))
    return directory


@pytest.fixture(scope="module")
def sandboxes(
    make_service: ServiceMaker, docker_engine: DockerEngine, storage: Path
) -> Iterator[Service]:
    remove_all_but_images(docker_engine)
    environment = {
        "DOCKER_URL": docker_url(docker_engine, memory_mb=128, ready_seconds=LONG_DEADLINE),
        "ENGINE_TIMEOUT_SECONDS": str(DEADLINE),
        "STORAGE_DIRECTORY": str(storage),
        "SANDBOX_GRACE": "2h",
    }
    with make_service(environment, workers=1, dockers=1, beats=1) as service:
        yield service


@pytest.fixture(scope="module")
def impatient(make_service: ServiceMaker, docker_engine: DockerEngine) -> Iterator[Service]:
    """A service that gives a sandbox no time to get ready."""
    environment = {"DOCKER_URL": docker_url(docker_engine, ready_seconds=READY)}
    with make_service(environment, dockers=1) as service:
        yield service


@pytest.fixture
def client(sandboxes: Service) -> Client:
    return sandboxes.client(sandboxes.token(project=new_project()))


def start(client: Client, body: dict[str, Any], path: str = ASYNC) -> int:
    """Send an async create and return its job."""
    answer = client.post(path, body)
    assert answer.status == 202, answer
    assert set(answer.body) == {"id", "url", "status"}
    assert type(answer.body["id"]) is int
    assert answer.body["url"].endswith(f"/queue/job/{answer.body['id']}")
    return int(answer.body["id"])


def create(client: Client, path: str = ASYNC, **body: Any) -> dict[str, Any]:
    """Create a sandbox and return the result of its job."""
    job = finished_job(client, start(client, body, path))
    assert job["status"] == "success", job
    result: dict[str, Any] = job["result"]
    return result


def drop(client: Client, credentials_id: object) -> dict[str, Any]:
    answer = client.delete(f"{ASYNC}/{credentials_id}")
    assert answer.status == 200, answer
    assert set(answer.body) == {"id", "url", "status"}
    assert isinstance(answer.body["id"], str)
    job = finished_job(client, int(answer.body["id"]))
    assert job["params"] == {"backend": "docker", "id": str(credentials_id)}
    return job


def require_closed(credentials: dict[str, Any]) -> None:
    address = (credentials["hostname"], credentials["port"])
    with pytest.raises(OSError), socket.create_connection(address, timeout=2):
        pass


def read_file(engine: DockerEngine, credentials_id: object, path: str) -> bytes:
    """Return a file of the sandbox's container."""
    container = objects_of(engine, credentials_id)[0]
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.extractfile(archive.getmembers()[0])
        assert member is not None
        return member.read()


# Create ---------------------------------------------------------------------------------


def test_a_sandbox_is_ready_when_its_job_is_done(client: Client) -> None:
    """Contract 8.1, 8.4.1, 9.1."""
    body = {"type": "jupyter", "script": "print(6*7)", "input": {"tables": [], "files": []}}
    job = finished_job(client, start(client, body))
    require_record({key: job[key] for key in job if key != "progress"})
    assert job["command"] == "create" and job["status"] == "success"
    assert job["params"] == {"backend": "docker", "type": "jupyter", "input": body["input"]}
    result = job["result"]
    assert result["status"] == "ok" and result["url"] == f"docker/{result['credentials']['id']}"
    credentials = result["credentials"]
    assert type(credentials["id"]) is int and type(credentials["port"]) is int
    assert credentials["hasHttps"] is True
    assert page(credentials) == 200
    assert page(credentials, "/login", credentials["password"]) == 200
    assert page(credentials, "/login", "wrong") == 401
    percents = [step["percent"] for step in job["progress"]]
    assert percents == sorted(percents) and len(percents) > 3
    assert all(step["step"] and step["message"] and step["time"] for step in job["progress"])


def test_a_sandbox_without_input_says_so_in_its_params(client: Client) -> None:
    """Contract 9.1.3."""
    job = finished_job(client, start(client, {"type": "rstudio"}))
    assert job["params"] == {"backend": "docker", "type": "rstudio", "input": []}
    assert "_" in job["result"]["credentials"]["user"]
    assert "rstu" in job["result"]["credentials"]["user"]


def test_script_tables_and_files_are_inside(client: Client, docker_engine: DockerEngine) -> None:
    """Contract 8.3."""
    result = create(
        client,
        type="jupyter",
        script="print(6*7)",
        input={
            "tables": [{"source": ORDERS, "destination": "orders.csv", "limit": 100}],
            "files": [{"tags": ["model"], "limit": 1}],
        },
    )
    number = result["credentials"]["id"]
    assert read_file(docker_engine, number, "/data/main.py") == b"print(6*7)"
    notebook = json.loads(read_file(docker_engine, number, "/data/notebook.ipynb"))
    assert "".join(notebook["cells"][0]["source"]) == "print(6*7)"
    orders = read_file(docker_engine, number, "/data/in/tables/orders.csv").decode()
    rows = list(csv.reader(io.StringIO(orders)))
    assert len(rows) == 101 and rows[0] == ["id", "price"] and rows[4] == ["3", '"3" CZK']
    manifest = json.loads(read_file(docker_engine, number, "/data/in/tables/orders.csv.manifest"))
    assert manifest["id"] == ORDERS and manifest["columns"] == ["id", "price"]
    assert read_file(docker_engine, number, "/data/in/files/3_model.bin") == b"file 3"


def test_a_byte_order_mark_is_no_part_of_a_script(
    client: Client, docker_engine: DockerEngine
) -> None:
    """Of the mark that some editors begin a file with, exactly one is dropped."""
    created = create(client, type="jupyter", script="\ufeffprint('x\ufeff')")
    script = read_file(docker_engine, created["credentials"]["id"], "/data/main.py")
    assert script == "print('x\ufeff')".encode()


def test_a_second_create_returns_the_same_sandbox(client: Client) -> None:
    """Contract 8.4.3."""
    first = create(client, type="jupyter")
    again = create(client, type="jupyter", script="another one")
    assert again == first
    other = create(client, type="rstudio")
    assert other["credentials"]["id"] != first["credentials"]["id"]


def test_equal_creates_at_once_make_one_sandbox(client: Client) -> None:
    jobs = [start(client, {"type": "jupyter"}) for _ in range(4)]
    results = [finished_job(client, job)["result"] for job in jobs]
    assert all(result == results[0] for result in results)


def test_a_stopped_sandbox_is_started_again_by_a_create(
    client: Client, docker_engine: DockerEngine
) -> None:
    """Contract 8.4.5."""
    first = create(client, type="jupyter")
    objects_of(docker_engine, first["credentials"]["id"])[0].stop(timeout=0)
    require_closed(first["credentials"])
    assert create(client, type="jupyter") == first
    assert page(first["credentials"]) == 200


def test_a_removed_sandbox_has_vanished(client: Client, docker_engine: DockerEngine) -> None:
    """Contract 6.1.4."""
    first = create(client, type="jupyter")["credentials"]
    objects_of(docker_engine, first["id"])[0].remove(force=True)
    require_not_found(client.get(f"/provisioning/docker/{first['id']}"))
    second = create(client, type="jupyter")["credentials"]
    assert second["id"] != first["id"]
    wait_until(lambda: not objects_of(docker_engine, first["id"]), what="no leftovers")


# Find, extend, drop ---------------------------------------------------------------------


def test_a_sandbox_is_found_as_credentials_are(client: Client) -> None:
    """Contract 6.2."""
    result = create(client, type="jupyter")
    number = result["credentials"]["id"]
    answer = client.get(f"/provisioning/docker/{number}")
    assert answer.status == 200, answer
    assert answer.body["credentials"] == {**result["credentials"], "id": str(number)}
    assert answer.body["id"] == str(number) and answer.body["status"] == "ok"
    assert answer.body["touch"] == result["touch"] and answer.body["inUse"] is False
    assert client.get("/provisioning/docker?type=jupyter").body["id"] == str(number)
    require_not_found(client.get("/provisioning/docker?type=rstudio"))
    require_not_found(client.get("/provisioning/docker"))


def test_an_open_connection_is_seen(client: Client) -> None:
    """Contract 6.2.1."""
    credentials = create(client, type="jupyter")["credentials"]
    path = f"/provisioning/docker/{credentials['id']}"
    with socket.create_connection((credentials["hostname"], credentials["port"])):
        body = client.get(path).body
        assert body["inUse"] is True
        assert body["activity"] == {"connections": 1, "busyKernels": 0, "lastActivity": None}
    wait_until(lambda: client.get(path).body["inUse"] is False, what="no use")


def test_a_sandbox_is_extended(client: Client) -> None:
    result = create(client, type="jupyter")
    answer = client.post(f"/provisioning/docker/{result['credentials']['id']}/extend")
    assert answer.status == 200, answer
    assert answer.body["touch"] > result["touch"]


def test_a_projects_limit_sets_the_lifetime(sandboxes: Service) -> None:
    """Contract 11.1."""
    limits = {"sandbox.expirationSeconds": 3600}
    client = sandboxes.client(sandboxes.token(project=new_project(), limits=limits))
    result = create(client, type="jupyter")
    body = client.post(f"/provisioning/docker/{result['credentials']['id']}/extend").body
    for touch, expiration in (
        (result["touch"], result["expiration"]),
        (body["touch"], body["expiration"]),
    ):
        assert seconds_of(expiration) - touch == 3600


def test_a_sandbox_in_use_at_its_end_gets_a_grace_and_a_note(
    sandboxes: Service, client: Client, docker_engine: DockerEngine
) -> None:
    credentials = create(client, type="jupyter")["credentials"]
    path = f"/provisioning/docker/{credentials['id']}"

    def told() -> bytes:
        return read_file(docker_engine, credentials["id"], "data/EXPIRES.txt")

    with socket.create_connection((credentials["hostname"], credentials["port"])):
        wait_until(lambda: client.get(path).body["inUse"], what="in use")
        with sandboxes.installation.database.write() as session:
            row, now = session.get_one(Credentials, credentials["id"]), read_clock(session)
            row.touched_at, row.expires_at, row.attend_at = now - 5 * DAY, now + LOOK_AHEAD, now
            end = seconds_of(format_time(row.expires_at) or "")
        wait_until(
            lambda: seconds_of(client.get(path).body["expiration"]) == end + 7200,
            what="the grace",
        )
    given = client.get(path).body
    assert given["expiration"] in given["warning"]
    wait_until(lambda: given["expiration"].encode() in told(), what="the note")
    extended = client.post(f"{path}/extend").body["expiration"].encode()
    wait_until(lambda: extended in told(), what="the note of the new end")


def seconds_of(time: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time).timestamp()


def test_a_dropped_sandbox_is_gone(client: Client, docker_engine: DockerEngine) -> None:
    """Contract 8.4.2, 8.5."""
    credentials = create(client, type="jupyter")["credentials"]
    assert drop(client, credentials["id"])["status"] == "success"
    require_closed(credentials)
    require_not_found(client.get(f"/provisioning/docker/{credentials['id']}"))
    require_not_found(client.delete(f"{ASYNC}/{credentials['id']}"))
    assert objects_of(docker_engine, credentials["id"]) == []


def test_only_the_owner_sees_the_password(sandboxes: Service) -> None:
    """Contract 9.1.4 and 4.3."""
    project = new_project()
    owner = sandboxes.client(sandboxes.token(project=project))
    other = sandboxes.client(sandboxes.token(project=project))
    job = start(owner, {"type": "jupyter"})
    credentials = finished_job(owner, job)["result"]["credentials"]
    shown = finished_job(other, job)["result"]["credentials"]
    assert credentials["password"]
    assert shown == {key: credentials[key] for key in credentials if key != "password"}
    require_not_found(other.get(f"/provisioning/docker/{credentials['id']}"))
    require_not_found(other.delete(f"{ASYNC}/{credentials['id']}"))


# Transformations ------------------------------------------------------------------------


def transform(client: Client, row: str = "6789", version: str = "4") -> dict[str, Any]:
    transformation = {"config_id": "sys.c-tr", "config_version": version, "row_id": row}
    job = start(client, {"transformation": transformation}, f"{ASYNC}/transformation")
    return finished_job(client, job)


def test_a_python_row_becomes_a_notebook(client: Client, docker_engine: DockerEngine) -> None:
    """Contract 8.2, 8.3."""
    job = transform(client)
    assert job["status"] == "success", job
    assert job["params"] == {
        "backend": "docker",
        "transformation": {"config_id": "sys.c-tr", "config_version": "4", "row_id": "6789"},
    }
    credentials = job["result"]["credentials"]
    assert "jupy" in credentials["user"]
    script = read_file(docker_engine, credentials["id"], "/data/main.py")
    assert script == b"import csv\nprint(6 * 7)"
    orders = read_file(docker_engine, credentials["id"], "/data/in/tables/orders.csv")
    assert len(orders.splitlines()) == 6
    assert read_file(docker_engine, credentials["id"], "/data/in/user/model") == b"file 3"
    installed = read_file(docker_engine, credentials["id"], "/home/sandbox/installed-packages")
    assert installed == b"tiny\n"


def test_an_older_version_gives_the_older_script(
    client: Client, docker_engine: DockerEngine
) -> None:
    credentials = transform(client, version="3")["result"]["credentials"]
    script = read_file(docker_engine, credentials["id"], "/data/main.py")
    assert script == b"import csv\nprint('older')"


def test_an_r_row_becomes_an_rstudio(client: Client, docker_engine: DockerEngine) -> None:
    credentials = transform(client, row="7")["result"]["credentials"]
    assert "rstu" in credentials["user"]
    assert read_file(docker_engine, credentials["id"], "/data/main.R") == b"6 * 7"


def test_a_transformation_and_a_plain_create_share_the_sandbox(client: Client) -> None:
    """Contract 8.4.3."""
    plain = create(client, type="jupyter")
    assert transform(client)["result"] == plain


@pytest.mark.parametrize(
    ("row", "version", "words"),
    [("1", "4", "1"), ("6789", "99", "99"), ("8", "4", "mysql")],
)
def test_a_row_that_cannot_be_used_is_named(
    client: Client, row: str, version: str, words: str
) -> None:
    job = transform(client, row, version)
    require_user_error(job, words)


def require_user_error(job: dict[str, Any], *words: str) -> None:
    assert job["status"] == "error" and job["error"] == "user", job
    assert set(job["result"]) == {"message", "exceptionId", "context"}
    for word in words:
        assert word in job["result"]["message"], job


# Failures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": {"tables": [{"source": "in.c-main.missing"}]}}, ["in.c-main.missing"]),
        ({"input": {"tables": [{"source": ORDERS, "columns": ["nope"]}]}}, [ORDERS, "nope"]),
        ({"script": "# stub: exits"}, ["exit"]),
        ({"script": "# stub: eats-memory"}, ["memory"]),
    ],
    ids=["missing-table", "missing-column", "exits", "memory"],
)
def test_a_failed_creation_says_why_and_leaves_nothing(
    client: Client, docker_engine: DockerEngine, body: dict[str, Any], words: list[str]
) -> None:
    """Contract 8.4.4; the next create starts clean."""
    require_failed_and_gone(client, docker_engine, body, words)
    assert page(create(client, type="jupyter")["credentials"]) == 200


def test_a_sandbox_that_never_gets_ready_is_given_up(
    impatient: Service, docker_engine: DockerEngine
) -> None:
    client = impatient.client(impatient.token(project=new_project()))
    body = {"script": "# stub: never-ready"}
    require_failed_and_gone(client, docker_engine, body, [f"{READY} s"])


def require_failed_and_gone(
    client: Client, engine: DockerEngine, body: dict[str, Any], words: list[str]
) -> None:
    """Create a sandbox, which fails with the words, and find nothing left of it."""
    before = len(engine.client().networks.list())
    job = finished_job(client, start(client, {"type": "jupyter", **body}))
    require_user_error(job, *words)
    require_not_found(client.get("/provisioning/docker?type=jupyter"))
    assert len(engine.client().networks.list()) <= before


def test_a_running_creation_can_be_killed(client: Client, docker_engine: DockerEngine) -> None:
    """Contract 9.4: terminating, then terminated, and nothing is left."""
    job = start(client, {"type": "jupyter", "script": "# stub: never-ready"})
    path = f"/queue/job/{job}"
    wait_until(
        lambda: any(s["step"] == "page" for s in client.get(path).body["progress"]),
        what="the wait for the page",
    )
    answer = client.post(f"/queue/jobs/{job}/kill")
    assert answer.status == 202, answer
    assert client.get(path).body["status"] in ("terminating", "terminated")
    record = finished_job(client, job)
    assert record["status"] == "terminated" and record["error"] is None
    assert record["result"] == {"message": "Job has been terminated"}
    assert record["terminatedBy"] == record["token"]
    assert record["waitSeconds"] is None
    containers = docker_engine.client().containers.list(all=True)
    assert not [c for c in containers if "never-ready" in str(c.attrs)]
    assert page(create(client, type="jupyter")["credentials"]) == 200


# Requests -------------------------------------------------------------------------------


def test_docker_is_made_and_dropped_by_jobs_only(client: Client) -> None:
    message = "Backend 'docker' supports only async actions."
    for answer in (
        client.post("/provisioning/docker", {"type": "jupyter"}),
        client.delete("/provisioning/docker/1"),
        client.post("/provisioning/docker/1/kill"),
    ):
        require_error(answer, 400, "backend_async_only", message)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/provisioning/async/mysql"),
        ("POST", "/provisioning/async/mysql/transformation"),
        ("DELETE", "/provisioning/async/mysql/1"),
    ],
)
def test_other_backends_have_no_async_actions(client: Client, method: str, path: str) -> None:
    message = "Backend 'mysql' does not support async actions."
    require_error(client(method, path), 400, "backend_sync_only", message)


def test_unknown_backends_and_paths(client: Client) -> None:
    require_error(
        client.post("/provisioning/async/oracle"),
        400,
        "backend_unknown",
        "Backend 'oracle' not found.",
    )
    for path in ("/provisioning/async", "/provisioning/async/docker/1/input"):
        require_error(client.post(path), 404, "route_not_found", "Route not found")
    answer = client.get(ASYNC)
    require_error(answer, 405, "method_not_allowed", "Method GET is not allowed.")


BAD: list[tuple[dict[str, Any], str, str | None]] = [
    ({}, "parameter_missing", "Parameter 'type' is required."),
    (
        {"type": "julipyter"},
        "type_invalid",
        "Type 'julipyter' is not supported by backend 'docker'. "
        "Allowed types are 'jupyter,rstudio'.",
    ),
    ({"type": ""}, "type_invalid", None),
    (
        {"type": "jupyter", "input": {"tables": [{"source": "a", "limit": 0}]}},
        "parameter_invalid",
        None,
    ),
    (
        {"type": "jupyter", "input": {"files": [{}]}},
        "parameter_invalid",
        "At least one of 'tags' or 'query' parameters must be defined.",
    ),
    ({"type": "jupyter", "nope": 1}, "parameter_unknown", None),
]


@pytest.mark.parametrize(("body", "reason", "message"), BAD)
def test_bad_requests_record_nothing(
    client: Client, body: dict[str, Any], reason: str, message: str | None
) -> None:
    require_error(client.post(ASYNC, body), 400, reason, message)
    assert client.get("/queue/jobs").body == []


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (
            "",
            {
                "input": {
                    "tables": [{"source": "a"}, {"source": "b", "changed_since": "c" * 70_000}]
                }
            },
            "input.tables[1].changed_since",
        ),
        ("", {"input": {"files": [{"tags": ["tag"] * 13_000}]}}, "input.files[0].tags"),
        ("/transformation", {"config_id": "1" * 70_000}, "transformation.config_id"),
    ],
)
def test_parameters_that_would_fill_the_lists_are_refused(
    client: Client, path: str, body: dict[str, Any], named: str
) -> None:
    parameters = {"type": "jupyter", **body}
    if path:
        parameters = {"transformation": {"config_version": "1", "row_id": "1", **body}}
    answer = client.post(f"{ASYNC}{path}", parameters)
    require_error(answer, 400, "parameter_invalid", None)
    problem = "the parameters are too long: 65536 bytes in all are allowed, without the script"
    assert answer.body["message"].endswith(f"{named}' is invalid: {problem}")
    assert client.get("/queue/jobs").body == []


def test_an_unknown_sandbox_is_404_at_once(client: Client) -> None:
    for unknown in ("1", "01", "x", "999999999999999999"):
        require_not_found(client.delete(f"{ASYNC}/{unknown}"))
