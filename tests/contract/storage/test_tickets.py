"""Job ids and run ids are tickets of the Storage API (contract 9.2)."""

import pytest

from tests.contract.expectations import (
    accepted_job,
    require_no_verification,
)
from tests.support.client import Answer, Client
from tests.support.storage_simulator import (
    Reply,
    StorageSimulator,
)


def kill(client: Client, run_id: str | None = None) -> Answer:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    headers = {"Prefer": "respond-async"} | ({} if run_id is None else {"X-KBC-RunId": run_id})
    return client.post(path, headers=headers)


@pytest.mark.parametrize("run_id", [None, "206296230.1"])
def test_job_id_and_run_id_are_two_tickets_of_the_storage_api(
    storage: StorageSimulator, client: Client, token: str, project: str, run_id: str | None
) -> None:
    storage.accept(token, project, project)
    job = accepted_job(kill(client, run_id))
    record = client.get(f"/queue/job/{job}").body
    tickets = [ticket for ticket in storage.tickets if ticket.token == token]
    assert len(tickets) == 2
    assert {ticket.run_id for ticket in tickets} == {run_id}
    assert record["id"] == tickets[0].number
    start = "" if run_id is None else f"{run_id}."
    assert record["runId"] == f"{start}{tickets[1].number}"
    assert record["nestingLevel"] == record["runId"].count(".")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(503, raw=b""),
        Reply(200, {}),
        Reply(200, {"id": "x"}),
        Reply(200, {"id": None}),
        Reply(200, {"id": -5}),
        Reply(200, {"id": "9" * 40}),
        Reply(200, raw=b"<html>"),
        Reply(hang_up=True),
        Reply(delay=30),
    ],
    ids=lambda reply: f"{reply.status}-{reply.content()[:16]!r}-{reply.hang_up}-{reply.delay}",
)
def test_without_tickets_nothing_is_recorded(
    storage: StorageSimulator, client: Client, token: str, project: str, reply: Reply
) -> None:
    storage.accept(token, project, project)
    body = client.create()
    path = f"/provisioning/mysql/{body['id']}"
    storage.answer_tickets(reply)
    try:
        for answer in (client.delete(path), client.post(f"{path}/kill")):
            require_no_verification(answer)
    finally:
        storage.answer_tickets(None)
    assert client.get(path).body["credentials"] == body["credentials"]
    accepted_job(client.delete(path, headers={"Prefer": "respond-async"}))


def test_a_ticket_given_twice_is_no_500(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project)
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    storage.answer_tickets(Reply(200, {"id": 77}))
    try:
        answers = [client.post(path, headers={"Prefer": "respond-async"}) for _ in range(2)]
    finally:
        storage.answer_tickets(None)
    assert [answer.status for answer in answers][1] in (202, 503)
