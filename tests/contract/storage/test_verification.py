"""What a verification tells (contract 5.1)."""

from typing import Any

import pytest

from tests.contract.conftest import new_project
from tests.contract.expectations import (
    accepted_job,
    read,
    require_no_verification,
    require_not_found,
)
from tests.support.client import Client
from tests.support.service import Service
from tests.support.storage_simulator import (
    Reply,
    StorageSimulator,
    token_details,
)


def test_ids_of_token_project_and_person_come_from_the_verification(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, f"9{project}", project, admin={"id": int(project)})
    body = client.create()
    prefix = body["credentials"]["db"].partition("_")[0]
    assert body["credentials"]["db"] == f"{prefix}_sand_{project}_{body['id']}"
    assert body["credentials"]["user"] == f"{prefix}_user_{project}"


@pytest.mark.parametrize("admin", [None, {}, {"id": None}, "missing"])
def test_without_a_person_the_token_stands_for_itself(
    storage: StorageSimulator, client: Client, token: str, project: str, admin: Any
) -> None:
    details = token_details(f"8{project}", project, admin=admin)
    if admin == "missing":
        del details["admin"]
    storage.answer(token, Reply(body=details))
    assert client.create()["credentials"]["user"].endswith(f"_user_t8{project}")


def test_ids_may_be_strings_or_integers(
    storage: StorageSimulator, verified: Service, token: str, project: str
) -> None:
    texts, numbers = verified.client(f"{token}-a"), verified.client(f"{token}-b")
    storage.accept(f"{token}-a", "4711", project, admin={"id": "4"})
    storage.accept(f"{token}-b", 4711, int(project), admin={"id": 4})
    assert texts.create() == numbers.create()


def test_two_tokens_of_one_person_share_the_sandbox_login(
    storage: StorageSimulator, verified: Service, token: str
) -> None:
    person = new_project()
    found = []
    for end in "ab":
        storage.accept(f"{token}-{end}", new_project(), new_project(), admin={"id": person})
        found.append(verified.client(f"{token}-{end}").create()["credentials"])
    assert found[0]["user"] == found[1]["user"]
    assert found[0]["password"] == found[1]["password"]
    assert found[0]["db"] != found[1]["db"]


@pytest.mark.parametrize(
    "key", ["description", "isDisabled", "expires", "admin", "owner.name", "owner.isDisabled"]
    + ["owner.features", "owner.hasMysql", "owner.limits"],
)  # fmt: skip
@pytest.mark.parametrize("null", [False, True], ids=["missing", "null"])
def test_a_missing_key_is_no_fault(
    storage: StorageSimulator, client: Client, token: str, project: str, key: str, null: bool
) -> None:
    details: dict[str, Any] = token_details(project, project, admin={"id": project})
    inner, _, name = key.rpartition(".")
    place = details[inner] if inner else details
    if null:
        place[name] = None
    else:
        del place[name]
    storage.answer(token, Reply(body=details))
    assert client.post("/provisioning/mysql", {"type": "sandbox"}).status == 201


def test_the_least_verification_and_an_overfull_one_both_serve(
    storage: StorageSimulator, verified: Service, token: str, project: str
) -> None:
    storage.answer(f"{token}-a", Reply(body={"id": "1", "owner": {"id": project}}))
    assert verified.client(f"{token}-a").create()["status"] == "ok"
    more = token_details("2", project, bucketPermissions={"x": "read"}, owner={"region": "eu"})
    storage.answer(f"{token}-b", Reply(body=more))
    assert verified.client(f"{token}-b").create()["status"] == "ok"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "1"},
        {"owner": {"id": 2}},
        {"id": None, "owner": {"id": 2}},
        {"id": "1", "owner": None},
        {"id": "1", "owner": []},
        {"id": "1", "owner": {}},
        {"id": {"a": 1}, "owner": {"id": [2]}},
    ],
)
def test_a_verification_without_ids_is_none(
    storage: StorageSimulator, client: Client, token: str, body: Any
) -> None:
    storage.answer(token, Reply(body=body))
    require_no_verification(read(client))


def test_texts_of_any_length_and_script_are_taken(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project, description="д" * 4000, owner={"name": "名" * 4000})
    body = client.create()
    answer = client.post(
        f"/provisioning/mysql/{body['id']}/kill", headers={"Prefer": "respond-async"}
    )
    record = client.get(f"/queue/job/{accepted_job(answer)}").body
    assert record["token"]["description"].startswith("д" * 100)
    assert record["project"]["name"].startswith("名" * 100)


def test_the_callers_token_is_asked_about_once_a_request_without_a_cache(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project)
    for calls in (1, 2, 3):
        require_not_found(read(client))
        assert storage.verifications(token) == calls
    assert client("OPTIONS", "/provisioning/mysql").status == 200
    client.get("/nowhere")
    client.get("/health/ready")
    assert storage.verifications(token) == 3
