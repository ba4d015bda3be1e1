"""Local tokens, where no Storage API is configured (contract 5.4 and 5.3)."""

from sqlalchemy import text

from provisioning.access.tokens import LocalTokens
from tests.contract.expectations import require_error, require_not_found
from tests.support.client import Client
from tests.support.service import Service


def local_tokens(service: Service) -> LocalTokens:
    return LocalTokens(service.installation.database)


def test_a_revoked_token_is_refused_at_once(service: Service, project: str) -> None:
    token = service.token(project=project)
    client = service.client(token)
    client.create()
    (row,) = [row for row in local_tokens(service).list() if row.project_id == project]
    assert local_tokens(service).revoke(row.id)
    for front in (0, 1):
        answer = service.client(token, front=front).get("/provisioning/mysql?type=sandbox")
        require_error(answer, 401, "token_invalid", "Invalid StorageApi Token")


def test_a_new_token_works_on_every_front_at_once(service: Service) -> None:
    token = service.token()
    for front in (0, 1):
        require_not_found(service.client(token, front=front).get("/provisioning/mysql"))


def test_a_token_works_with_spaces_around_it_and_not_with_a_change(service: Service) -> None:
    token = service.token()
    require_not_found(service.client(f"  {token} ").get("/provisioning/mysql"))
    for wrong in (token[:-1], token + "0", token.upper(), token.replace("-", "_")):
        answer = service.client(wrong).get("/provisioning/mysql")
        require_error(answer, 401, "token_invalid", "Invalid StorageApi Token")


def test_a_token_of_other_letters_is_refused(service: Service) -> None:
    answer = service.anonymous().get(
        "/provisioning/mysql", headers={"X-StorageApi-Token": "70-1-\xe9\xff"}
    )
    require_error(answer, 401, "token_invalid", "Invalid StorageApi Token")


def test_tokens_and_passwords_are_neither_logged_nor_stored_in_clear(
    service: Service, client: Client
) -> None:
    body = client.create()
    path = f"/provisioning/mysql/{body['id']}"
    client.get(path)
    client.get(path + "/wrong")
    client.post(f"{path}/kill", headers={"X-KBC-RunId": "run"})
    stored = stored_texts(service)
    assert str(body["credentials"]["user"]) in stored
    client.delete(path)
    logs = service.logs()
    assert body["id"] in logs
    for secret in (client.token, body["credentials"]["password"]):
        assert secret is not None
        assert secret not in logs
        assert secret not in stored


def stored_texts(service: Service) -> str:
    """Return all that the state database holds, as text."""
    tables = ("credentials", "logins", "jobs", "local_tokens", "settings")
    with service.installation.database.read() as session:
        return "\n".join(
            repr(row) for table in tables for row in session.execute(text(f"SELECT * FROM {table}"))
        )
