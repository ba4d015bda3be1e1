"""GET /queue/jobs: which jobs it lists, in pages, and its queries (contract 9.3)."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from devstack.processes import descendants
from provisioning.configuration.secrets import Secret
from provisioning.state.database import next_numbers
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.models import Credentials, Job
from tests.contract.expectations import finished_job, require_error, require_headers
from tests.contract.test_jobs import KEYS, start_kill
from tests.support.client import Answer, Client
from tests.support.service import Service
from tests.unit.jobs.search.job_queries import hostile_text

#: 2018-06-21 00:00:00 UTC in milliseconds.
MIDSUMMER = 1_529_539_200_000
DAY = 86_400_000


def add_jobs(service: Service, project: str, *changes: dict[str, Any]) -> list[int]:
    """Record finished jobs, as long ago, and return their ids."""
    with service.installation.database.write() as session:
        numbers = next_numbers(session, "ticket", len(changes))
        for number, values in zip(numbers, changes, strict=True):
            created = values.get("created_at", MIDSUMMER)
            job = {
                "id": number,
                "run_id": str(number),
                "command": JobCommand.DELETE,
                "status": JobStatus.SUCCESS,
                "backend": "docker",
                "params": {"backend": "docker", "id": "43"},
                "result": {"status": "ok"},
                "slot": f"{project}:docker:jupyter",
                "project_id": project,
                "project_name": "Test",
                "token_id": "30680",
                "token_description": "a@b.cz",
                "created_at": created,
                "started_at": created + 1000,
                "ended_at": created + 31_000,
                # Whatever its status, nobody works on it.
                "not_before": 2**45,
            }
            session.add(Job(**{**job, **values}))
    return numbers


def search(client: Client, **parameters: Any) -> Answer:
    return client.get(f"/queue/jobs?{urlencode(parameters)}")


def ids(answer: Answer) -> list[int]:
    assert answer.status == 200, answer
    return [job["id"] for job in answer.body]


def ports(*clients: Client) -> list[str]:
    return [f":{client.port}/" for client in clients]


# The list -------------------------------------------------------------------------------


def test_nothing_found_is_an_empty_list(client: Client) -> None:
    answer = client.get("/queue/jobs")
    assert answer.status == 200 and answer.text == "[]"
    require_headers(answer)


def test_the_list_holds_the_projects_records_newest_first(
    service: Service, project: str, client: Client
) -> None:
    owner = service.client(service.token(project=project))
    colleague = service.client(service.token(project=project), front=1)
    start_kill(client)
    jobs = [start_kill(owner, run_id) for run_id in ("first", None)] + [start_kill(colleague)]
    records = [finished_job(owner, job) for job in reversed(jobs)]
    assert owner.get("/queue/jobs").body == records
    assert all(set(job) == KEYS for job in records)
    # The other front listens on a port of its own.
    others = [{**job, "url": job["url"].replace(*ports(owner, colleague))} for job in records]
    assert colleague.get("/queue/jobs").body == others


def test_a_token_is_needed_and_a_body_has_no_parameters(service: Service, client: Client) -> None:
    message = "Missing StorageAPI token"
    require_error(service.anonymous().get("/queue/jobs?limit=x"), 400, "token_missing", message)
    require_error(client.get("/queue/jobs?q=(", body="{"), 400, "bad_json", None)
    require_error(client.get("/queue/jobs?q=(", body={"q": "a:1"}), 400, "parameter_unknown", None)
    answer = client.post("/queue/jobs")
    require_error(answer, 405, "method_not_allowed", "Method POST is not allowed.")
    assert client("HEAD", "/queue/jobs").status == 200


def test_the_password_is_shown_to_the_token_that_made_the_sandbox(
    service: Service, project: str
) -> None:
    owner = service.token(project=project)
    principal = service.installation.tokens.verify(Secret(owner))
    made, dropped = (add_sandbox(service, project, secret) for secret in ("p4ss", ""))
    created = {"command": JobCommand.CREATE, "token_id": principal.token_id}
    rows = [
        {
            **created,
            "credentials_id": id_,
            "result": {"status": "ok", "credentials": {"id": id_}},
        }
        for id_ in (made, made, dropped)
    ]
    jobs = add_jobs(service, project, *rows, created, {"status": JobStatus.WAITING, **created})
    own = service.client(owner)
    shown = [job["result"].get("credentials") for job in own.get("/queue/jobs").body][::-1]
    sandbox = {"id": made, "password": "p4ss"}
    assert shown == [sandbox, sandbox, {"id": dropped}, None, None]
    assert own.get(f"/queue/job/{jobs[0]}").body["result"]["credentials"] == sandbox
    stranger = service.client(service.token(project=project))
    assert "p4ss" not in stranger.get("/queue/jobs").text


def add_sandbox(service: Service, project: str, password: str) -> int:
    """Record a sandbox, or with an empty password what is left of one."""
    installation = service.installation
    row = Credentials(
        id=installation.numbers.take(),
        backend="docker",
        type="jupyter",
        state=CredentialsState.ACTIVE if password else CredentialsState.DROPPED,
        project_id=project,
        project_name="Test",
        token_id="1",
        token_description="",
        server="a",
        user_name="a",
        object_name="a",
        secret=installation.vault.encrypt(Secret(password)) if password else "",
        created_at=MIDSUMMER,
        touched_at=MIDSUMMER,
    )
    with installation.database.write() as session:
        session.add(row)
    return row.id


def test_metrics_are_there_when_they_are_asked_for(
    service: Service, project: str, client: Client
) -> None:
    client = service.client(service.token(project=project))
    job = add_jobs(service, project, {})[0]
    for include in ("metrics", "x,metrics"):
        assert search(client, include=include).body[0]["metrics"] == {}
        assert client.get(f"/queue/job/{job}?include={include}").body["metrics"] == {}
    for include in ("", "metric"):
        assert set(search(client, include=include).body[0]) == KEYS
        assert set(client.get(f"/queue/jobs/{job}?include={include}").body) == KEYS


# Pages ----------------------------------------------------------------------------------


def test_a_list_comes_in_pages(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    jobs = add_jobs(service, project, *([{}] * 105))[::-1]
    assert ids(search(client)) == jobs[:100]
    assert ids(search(client, limit="1000")) == jobs
    assert ids(search(client, limit=1)) == jobs[:1]
    assert ids(search(client, limit=10, offset=100)) == jobs[100:]
    assert ids(search(client, offset="0", limit="")) == jobs[:100]
    for beyond in ("105", "9" * 18, "9" * 40, "9" * 4000):
        assert ids(search(client, offset=beyond)) == []
    assert ids(search(client, before=jobs[0])) == jobs[1:101]
    assert ids(search(client, before=jobs[99], limit=3, offset=1)) == jobs[101:104]
    assert ids(search(client, before="9" * 18)) == jobs[:100]
    assert ids(search(client, q="id:1", limit=1)) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ("0", "1001", "-1", "x", "1.0", " 1", "٣", "9" * 5000)),
        ("offset", ("-1", "x", "+1", "1e3", "٣")),
        ("before", ("0", "01", "-1", "x", "9" * 19)),
        ("since", ("x", "2018", "2018-13-01", "2 days", "-2", "now")),
        ("until", ("2018-06-21T25:00", "-x days", "1529539200")),
        ("q", ("error", "(a:1", 'a:"', "a:[1 TO", "a:[x TO y]", "a:*b", "x" * 4001)),
        ("q", ("status:>1", "startTime:[5 TO *]")),
    ],
)
def test_a_bad_parameter_is_named(client: Client, name: str, values: tuple[str, ...]) -> None:
    for value in values:
        body = require_error(search(client, **{name: value}), 400, "query_invalid", None)
        assert body["message"].startswith(f"Parameter '{name}' is invalid: "), value


# Conditions -----------------------------------------------------------------------------


def test_all_conditions_hold_at_once(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    a, b, c = add_jobs(
        service,
        project,
        {"run_id": "nightly (1).5"},
        {"status": JobStatus.ERROR, "error": "user"},
        {"status": JobStatus.ERROR, "error": "application", "run_id": "nightly (1).5"},
    )
    assert ids(search(client, status="error")) == [c, b]
    assert ids(search(client, runId="nightly (1).5")) == [c, a]
    assert ids(search(client, runId="nightly (1).5", status="error")) == [c]
    assert ids(search(client, component="keboola-provisioning-bundle")) == [c, b, a]
    assert ids(search(client, status="error", q="error:user")) == [b]
    assert ids(search(client, q="error:user OR error:application", runId=b)) == [b]
    for name in ("status", "component", "runId"):
        for other in ("x", "Error", "err*", "nightly", "nightly (1).5 ", "\0", "'"):
            assert ids(search(client, **{name: other})) == []
    empty = dict.fromkeys(
        ("q", "limit", "offset", "before", "status", "component", "runId", "since", "until"), ""
    )
    assert ids(search(client, **empty, include="", unknown="x")) == [c, b, a]
    assert ids(search(client, q=" ")) == [c, b, a]
    assert ids(client.get("/queue/jobs?status=success&status=error")) == [a]


def test_since_and_until_are_about_the_time_of_creation(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    a, b, c = add_jobs(
        service,
        project,
        {"created_at": MIDSUMMER - 1},
        {"created_at": MIDSUMMER + 500},
        {"created_at": MIDSUMMER + DAY},
    )
    assert ids(search(client, since="2018-06-21")) == [c, b]
    assert ids(search(client, until="2018-06-21")) == [b, a]
    assert ids(search(client, since="2018-06-21", until="2018-06-21")) == [b]
    assert ids(search(client, since="2018-06-21T00:00:01")) == [c]
    assert ids(search(client, since="2018-06-22T02:00:00+02:00")) == [c]
    assert ids(search(client, until="2018-06-20T23:59:59Z")) == [a]
    for job in client.get("/queue/jobs").body:
        # A plus that is not escaped arrives as a space.
        day = client.get(f"/queue/jobs?since={job['createdTime']}&until={job['createdTime']}")
        assert ids(day) == [job["id"]]
    assert ids(search(client, until="-2 days")) == [c, b, a]
    assert ids(search(client, since="-2 days")) == []
    assert ids(search(client, since="-200 years", until="-1 month")) == [c, b, a]
    assert ids(search(client, since="2018-06-22", until="2018-06-20")) == []


def test_a_new_job_was_created_within_the_last_minute(client: Client) -> None:
    job = start_kill(client)
    assert ids(search(client, since="-1 minute")) == [job]
    assert ids(search(client, until="-1 minute")) == []


def test_the_queries_of_the_contract_work(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    a, b, c = add_jobs(
        service,
        project,
        {"token_description": "c@d.cz", "params": {"backend": "mysql", "id": "1"}},
        {"status": JobStatus.ERROR, "error": "user", "created_at": MIDSUMMER + 10 * DAY},
        {"status": JobStatus.CANCELLED, "started_at": None, "ended_at": MIDSUMMER + 200_000},
    )
    add_jobs(service, f"{project}0", {"status": JobStatus.ERROR})
    expected = {
        f"(id:{a} OR id:{c})": [c, a],
        f"id:({a} OR {b})": [b, a],
        "-status:success": [c, b],
        "token.description:a@b.cz": [c, b],
        'token.description:"a@b.cz"': [c, b],
        "durationSeconds:>120": [],
        "durationSeconds:>=30": [b, a],
        "-durationSeconds:30": [c],
        "startTime:[2018-06-21 TO 2018-07-01]": [b, a],
        "startTime:[* TO 2018-06-30]": [a],
        "startTime:<2018-07-01": [a],
        "createdTime:2018-07-01": [b],
        "params.backend:(docker OR mysql) AND status:error": [b],
        "params.backend:docker status:error OR params.id:1": [b, a],
        "params.backend:mysq*": [a],
        "isFinished:true -error:user": [c, a],
        f"project.id:{project} project.name:Test process.host:x": [],
        f"runId:{c} nestingLevel:0": [c],
        "result.status:ok": [],
        "foo:bar": [],
        "-foo:bar": [c, b, a],
    }
    assert {text: ids(search(client, q=text)) for text in expected} == expected


def test_hostile_queries_are_harmless(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    job = add_jobs(service, project, {})[0]
    random = Random(7)
    for _ in range(100):
        text = hostile_text(random).encode("utf-8", "surrogatepass")
        answer = client.get(f"/queue/jobs?q={quote(text)}")
        assert answer.status in (200, 400), (text, answer)
    assert ids(search(client)) == [job]


# Bounds ---------------------------------------------------------------------------------

#: As long as an order's parameters may be, of the values that take the most memory once read.
WORST = {"backend": "docker", "type": "jupyter", "where": ["ab"] * 13_000}
#: Bytes of a list, and megabytes that a front may grow by while it answers many.
LIST_BYTES, GROWTH = 3 * 512 * 1024, 100


@pytest.fixture
def long_jobs(service: Service, project: str) -> list[int]:
    """Ids of jobs that would make a list of 13 megabytes."""
    return add_jobs(service, project, *[{"params": WORST}] * 200)[::-1]


def test_a_long_list_ends_early_and_says_where_it_goes_on(
    service: Service, project: str, long_jobs: list[int]
) -> None:
    client = service.client(service.token(project=project))
    found: list[int] = []
    address = "/queue/jobs?limit=1000&status=success"
    while address:
        answer = client.get(address)
        assert 0 < len(answer.text) <= LIST_BYTES
        found += ids(answer)
        link = answer.headers.get("Link", "")
        address = link.partition("<")[2].partition(">")[0].partition(f":{client.port}")[2]
        assert not link or link.endswith('; rel="next"')
    assert found == long_jobs
    assert "Link" not in client.get("/queue/jobs?limit=5").headers


def test_many_long_lists_at_once_take_little_memory(
    service: Service, project: str, long_jobs: list[int]
) -> None:
    client = service.client(service.token(project=project))
    front = service.fronts[0].pid
    client.get("/queue/jobs?limit=1000")
    before, highest = memory(front), 0
    with ThreadPoolExecutor(16) as executor:
        lists = [executor.submit(client.get, "/queue/jobs?limit=1000") for _ in range(32)]
        while not all(one.done() for one in lists):
            highest = max(highest, memory(front))
            time.sleep(0.05)
    assert {one.result().status for one in lists} == {200}
    assert highest - before < GROWTH


def memory(pid: int) -> int:
    """Return the resident megabytes of a process and those below it."""
    kilobytes = 0
    for one in (pid, *descendants(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{one}/status").read_text()
            kilobytes += int(status.partition("VmRSS:")[2].split()[0])
    return kilobytes // 1024
