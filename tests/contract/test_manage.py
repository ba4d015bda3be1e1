"""What operators do over HTTP (contract section 11)."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from devstack.mariadb import MariaDB
from provisioning.access.management_tokens import WRONG_TRIES, ManageTokens
from provisioning.cli.main import cli
from provisioning.state.models import Credentials
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import require_error, require_headers, require_not_found
from tests.contract.server_look import database_exists
from tests.support.client import Answer, Client
from tests.support.deadlines import wait_until
from tests.support.service import Service

GARBAGE = "/provisioning/manage/server/mysql/garbage-collection?type=sandbox&hours=1"
BROKEN = b"{"


@pytest.fixture(scope="module")
def managed(make_service: ServiceMaker) -> Iterator[Service]:
    """A front and a worker; nobody asks for sweeps."""
    with make_service({"MANAGE_CALLS_PER_MINUTE": "0"}, workers=1) as service:
        yield service


@pytest.fixture(scope="module")
def unattended(make_service: ServiceMaker) -> Iterator[Service]:
    """A front alone: what a sweep finds, nobody takes before or meanwhile."""
    with make_service({}) as service:
        yield service


class Operator(Client):
    """A client with a management token instead of a project's."""

    def __init__(self, port: int, manage_token: str) -> None:
        super().__init__(port)
        self._manage_token = manage_token

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return self(method, path, body, headers={"x-kbc-manageapitoken": self._manage_token})


def operator_of(service: Service) -> Operator:
    _, token = ManageTokens(service.installation.database).create("ada")
    return Operator(service.anonymous().port, token.reveal())


@pytest.fixture(scope="module")
def operator(managed: Service) -> Operator:
    return operator_of(managed)


# Tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"X-KBC-ManageApiToken": ""}])
def test_without_a_management_token_nothing_is_done(
    managed: Service, headers: dict[str, str]
) -> None:
    """A project's token is no management token."""
    owner = managed.client(managed.token(project=new_project()))
    garbage = owner.create()
    make_old(managed, garbage)
    answer = owner.post(GARBAGE, headers=headers)
    require_error(answer, 400, "manage_token_missing", "Missing Manage API token")
    assert owner.get("/queue/jobs").body == []
    path = f"/provisioning/mysql/{garbage['id']}"
    assert owner.get(path).status == 200
    owner.delete(path)


def test_a_wrong_management_token_is_refused(managed: Service) -> None:
    answer = managed.client().post(GARBAGE, headers={"X-KBC-ManageApiToken": managed.token()})
    require_error(answer, 401, "manage_token_invalid", "Invalid Manage API token")


def test_a_management_token_is_no_token_of_a_project(operator: Operator) -> None:
    answer = operator.call("GET", "/provisioning/mysql")
    require_error(answer, 400, "token_missing", "Missing StorageAPI token")


def test_a_flood_of_wrong_tokens_keeps_no_known_operator_out(make_service: ServiceMaker) -> None:
    """Nor does maintenance."""
    with make_service({"MAINTENANCE_MESSAGE": "Back at noon"}) as service:
        known = operator_of(service)
        wrong = Operator(service.anonymous().port, "manage-1-wrong")
        assert known.call("POST", GARBAGE).status == 200
        # The minute may end in between.
        answers = [wrong.call("POST", GARBAGE) for _ in range(2 * WRONG_TRIES + 1)]
        assert {answer.status for answer in answers} == {401, 429}
        refused = next(answer for answer in answers if answer.status == 429)
        require_error(refused, 429, "rate_limited", "Too many calls, try again later.")
        assert known.call("POST", GARBAGE).status == 200


# Garbage --------------------------------------------------------------------------------


def make_old(service: Service, body: dict[str, object]) -> None:
    """Let a credential have been touched two hours ago."""
    statement = update(Credentials).where(Credentials.id == int(str(body["id"])))
    touched = Credentials.touched_at - 7_200_000
    with service.installation.database.write() as session:
        session.execute(statement.values(touched_at=touched))


def test_garbage_is_removed_and_told_of(
    managed: Service, operator: Operator, mariadb: MariaDB
) -> None:
    old, young, other = (managed.client() for _ in range(3))
    gone, kept, transformations = old.create(), young.create(), other.create("transformations")
    make_old(managed, gone)
    make_old(managed, transformations)
    answer = operator.call("POST", GARBAGE)
    require_headers(answer)
    assert answer.body == {"status": "ok", "count": 1, "ids": [gone["id"]]}
    require_not_found(old.get(f"/provisioning/mysql/{gone['id']}"))
    wait_until(
        lambda: not database_exists(mariadb, gone["credentials"]["db"]),
        what="the database removed, by a worker that was told",
    )
    assert operator.call("POST", GARBAGE).body == {"status": "ok", "count": 0, "ids": []}
    assert old.create()["id"] != gone["id"]
    for client, body in ((young, kept), (other, transformations)):
        assert client.get(f"/provisioning/mysql/{body['id']}").status == 200


@pytest.mark.parametrize("backend,type_", [("snowflake", "writer"), ("docker", "rstudio")])
def test_garbage_of_every_backend_is_looked_for(
    operator: Operator, backend: str, type_: str
) -> None:
    path = f"/provisioning/manage/server/{backend}/garbage-collection?type={type_}&days=30"
    assert operator.call("POST", path).body == {"status": "ok", "count": 0, "ids": []}


@pytest.mark.parametrize(
    "path,reason,names",
    [
        ("oracle/garbage-collection?type=sandbox&days=1", "backend_unknown", "oracle"),
        ("mysql/garbage-collection?days=1", "parameter_missing", "type"),
        ("mysql/garbage-collection?type=&days=1", "type_invalid", "''"),
        ("mysql/garbage-collection?type=Sandbox&days=1", "type_invalid", "Sandbox"),
        ("mysql/garbage-collection?type=writer&days=1", "type_invalid", "writer"),
        ("mysql/garbage-collection?type=sandbox", "parameter_invalid", "days"),
        ("mysql/garbage-collection?type=sandbox&days=1&hours=1", "parameter_invalid", "hours"),
        ("mysql/garbage-collection?type=sandbox&days=0", "parameter_invalid", "days"),
        ("mysql/garbage-collection?type=sandbox&hours=-1", "parameter_invalid", "hours"),
        ("mysql/garbage-collection?type=sandbox&hours=1.5", "parameter_invalid", "hours"),
        ("mysql/garbage-collection?type=sandbox&days=%D9%A3", "parameter_invalid", "days"),
    ],
)
def test_what_is_no_garbage_is_said(operator: Operator, path: str, reason: str, names: str) -> None:
    error = require_error(
        operator.call("POST", f"/provisioning/manage/server/{path}"), 400, reason, None
    )
    assert names in error["message"]


def test_checks_of_management_come_in_order(managed: Service, operator: Operator) -> None:
    unknown = GARBAGE.replace("mysql", "oracle")
    nobody = managed.anonymous()
    assert nobody.get(GARBAGE).body["reason"] == "method_not_allowed"
    assert nobody.post(unknown, BROKEN).body["reason"] == "manage_token_missing"
    assert operator.call("POST", unknown, BROKEN).body["reason"] == "backend_unknown"
    assert operator.call("POST", f"{GARBAGE}&days=x", BROKEN).body["reason"] == "bad_json"
    assert operator.call("POST", GARBAGE, b'{"days":1}').body["reason"] == "parameter_unknown"
    assert operator.call("POST", "/provisioning/manage/x").body["reason"] == "route_not_found"
    huge = operator.call("POST", f"{GARBAGE.partition('&')[0]}&days={'9' * 5000}")
    assert huge.body == {"status": "ok", "count": 0, "ids": []}


# Sweeps without a beat ------------------------------------------------------------------


def expire(service: Service, body: dict[str, object]) -> None:
    statement = update(Credentials).where(Credentials.id == int(str(body["id"])))
    with service.installation.database.write() as session:
        session.execute(statement.values(expires_at=1))


def by_http(service: Service) -> dict[str, object]:
    answer = operator_of(service).call("POST", "/provisioning/manage/sweep")
    require_headers(answer)
    assert answer.body.pop("status") == "ok"
    return dict(answer.body)


def by_command(service: Service) -> dict[str, object]:
    result = CliRunner().invoke(cli, ["sweep"], env=service.environment)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("ask", [by_http, by_command])
def test_one_sweep_has_what_expired_removed(
    unattended: Service, mariadb: MariaDB, ask: Callable[[Service], dict[str, object]]
) -> None:
    """A worker that is busy on the server would take it without being told."""
    created = unattended.client().create()
    expire(unattended, created)
    counts = ask(unattended)
    assert (counts["serversWithExpired"], counts["forgotten"]) == (1, 0)
    worker = unattended.start_worker()
    try:
        wait_until(
            lambda: not database_exists(mariadb, created["credentials"]["db"]),
            what="the database removed by a worker",
        )
    finally:
        worker.stop()


def test_a_sweep_that_reaches_no_worker_says_so(managed: Service) -> None:
    environment = {**managed.environment, "BROKER_URL": "redis://127.0.0.1:1/0"}
    result = CliRunner().invoke(cli, ["sweep"], env=environment)
    assert result.exit_code == 1
    assert "the broker does not answer" in result.output


def test_only_operators_sweep(managed: Service) -> None:
    answer = managed.client().post("/provisioning/manage/sweep")
    require_error(answer, 400, "manage_token_missing", "Missing Manage API token")


# The audit ------------------------------------------------------------------------------

EVENT_KEYS = {
    "id", "time", "action", "project", "token", "runId", "job", "credentials", "worker",
    "durationSeconds", "detail", "failure",
}  # fmt: skip


def events(operator: Operator, **filters: object) -> list[dict[str, Any]]:
    answer = operator.call("GET", f"/provisioning/manage/events?{urlencode(filters)}")
    assert answer.status == 200, answer
    require_headers(answer)
    body: list[dict[str, Any]] = answer.body
    assert all(set(event) == EVENT_KEYS for event in body)
    return body


def test_the_audit_tells_who_did_what(managed: Service, operator: Operator, project: str) -> None:
    client = managed.client(managed.token(project=project))
    created = client.post("/provisioning/mysql", headers={"X-KBC-RunId": "17"}).body
    path = f"/provisioning/mysql/{created['id']}"
    extended = client.post(f"{path}/extend").body
    assert client.delete(path).status == 200
    told = events(operator, project=project)
    assert [event["action"] for event in told] == [
        "job.succeeded", "credentials.dropped", "job.started", "credentials.drop_requested",
        "job.accepted", "credentials.extended", "credentials.created", "token.created",
    ]  # fmt: skip
    assert [event["id"] for event in told] == sorted((e["id"] for e in told), reverse=True)
    of = {event["action"]: event for event in told}
    assert of["token.created"]["token"] == "operator"
    assert of["token.created"]["detail"]["description"] == "test"
    owner = of["credentials.created"]["token"]
    assert {event["token"] for event in told[:-1]} == {owner}
    assert of["credentials.extended"]["detail"] == {
        "before": {"touch": created["touch"], "expiration": created["expiration"]},
        "after": {"touch": extended["touch"], "expiration": extended["expiration"]},
    }
    states = [(e["detail"]["before"], e["detail"]["after"]) for e in (told[1], told[3])]
    active, dropping, dropped = ({"state": s} for s in ("active", "dropping", "dropped"))
    assert states == [(dropping, dropped), (active, dropping)]
    by_run = events(operator, runId="17", project=project)
    assert [event["action"] for event in by_run] == ["credentials.created"]
    assert events(operator, credentials=created["id"], project=project) == told[:-1]
    job = of["job.started"]["job"]
    assert events(operator, job=job) == [event for event in told if event["job"] == job]
    assert events(operator, token=owner) == told[:-1]
    assert events(operator, token=owner, action="credentials.extended") == [told[5]]
    assert events(operator, project=project, limit=2) == told[:2]
    assert events(operator, project=project, limit=2, before=told[1]["id"]) == told[2:4]
    assert events(operator, project=project, since="-1 hour", until="-0 seconds") == told
    assert events(operator, project=project, until="-1 hour") == []
    secrets = (client.token, created["credentials"]["password"])
    assert not any(str(secret) in json.dumps(told) for secret in secrets)


def test_the_audit_has_the_reasons_of_failures(make_service: ServiceMaker, project: str) -> None:
    """Callers do not see them: they name servers."""
    with make_service({"MYSQL_URL": "mysql://root:hunter2@127.0.0.1:1"}) as service:
        _, token = ManageTokens(service.installation.database).create("ada", "operator:root")
        operator = Operator(service.anonymous().port, token.reveal())
        client = service.client(service.token(project=project))
        assert client.post("/provisioning/mysql").status == 503
        (failed,) = events(operator, project=project, action="credentials.creation_failed")
        assert "127.0.0.1" in failed["failure"] or "default" in failed["failure"]
        assert "hunter2" not in json.dumps(events(operator))
        (told,) = events(operator, action="manage_token.created")
        assert (told["token"], told["detail"]["description"]) == ("operator:root", "ada")


@pytest.mark.parametrize(
    "name,value",
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "x"),
        ("before", "-1"),
        ("credentials", "07"),
        ("job", "x"),
        ("action", "credentials.lost"),
        ("since", "yesterday"),
        ("until", "2018-13-01"),
        ("project", "\0"),
    ],
)
def test_a_bad_filter_is_named(operator: Operator, name: str, value: str) -> None:
    path = f"/provisioning/manage/events?{urlencode({name: value})}"
    error = require_error(operator.call("GET", path), 400, "query_invalid", None)
    assert f"'{name}'" in error["message"]


def test_only_operators_read_the_audit(managed: Service) -> None:
    answer = managed.client().get("/provisioning/manage/events")
    require_error(answer, 400, "manage_token_missing", "Missing Manage API token")
