"""Which backends a project may use (contract 5.5)."""

from typing import Any

import pytest

from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    read,
    require_error,
    require_not_found,
    require_unavailable,
)
from tests.support.client import Answer, Client
from tests.support.storage_simulator import (
    Reply,
    StorageSimulator,
    token_details,
)

FLAGS = {"mysql": "hasMysql", "redshift-workspace": "hasRedshift", "snowflake": "hasSnowflake"}


def require_disabled(answer: Answer, backend: str, project: str) -> None:
    message = f"Backend '{backend}' is not enabled for project {project}."
    require_error(answer, 403, "backend_disabled", message)


@pytest.mark.parametrize("backend", FLAGS)
def test_a_backend_that_the_project_lacks_is_refused_on_creation(
    storage: StorageSimulator, client: Client, token: str, project: str, backend: str
) -> None:
    storage.accept(token, project, project, owner={FLAGS[backend]: False})
    require_disabled(client.post(f"/provisioning/{backend}"), backend, project)
    # Checks before this one answer first, reads are not refused.
    assert client.post(f"/provisioning/{backend}", {"type": "x"}).status == 400
    assert client.post(f"/provisioning/{backend}", b"{").status == 400
    require_not_found(client.get(f"/provisioning/{backend}"))


@pytest.mark.parametrize("backend", FLAGS)
@pytest.mark.parametrize("flag", ["missing", True, None, "false"])
def test_only_a_flag_that_is_false_refuses(
    storage: StorageSimulator, client: Client, token: str, project: str, backend: str, flag: Any
) -> None:
    details = token_details(project, project)
    if flag == "missing":
        del details["owner"][FLAGS[backend]]
    else:
        details["owner"][FLAGS[backend]] = flag
    storage.answer(token, Reply(body=details))
    answer = client.post(f"/provisioning/{backend}")
    if backend == "mysql":
        assert answer.status == 201
    else:
        require_unavailable(answer, backend)


def test_the_feature_opens_mysql_although_the_flag_is_false(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    owner = {"hasMysql": False, "features": ["a", "transformation-mysql"]}
    storage.accept(token, project, project, owner=owner)
    assert client.post("/provisioning/mysql").status == 201


def test_the_mysql_feature_opens_no_other_backend(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    owner = {"hasSnowflake": False, "features": ["transformation-mysql"]}
    storage.accept(token, project, project, owner=owner)
    require_disabled(client.post("/provisioning/snowflake"), "snowflake", project)


def test_what_exists_can_still_be_used_and_dropped_after_the_refusal(
    storage: StorageSimulator, make_service: ServiceMaker, token: str, project: str
) -> None:
    environment = {"STORAGE_API_URL": storage.url, "TOKEN_CACHE_SECONDS": "0"}
    with make_service(environment, workers=1) as service:
        client = service.client(token)
        storage.accept(token, project, project)
        body = client.create()
        storage.accept(token, project, project, owner={"hasMysql": False})
        require_disabled(client.post("/provisioning/mysql", {"type": "sandbox"}), "mysql", project)
        path = f"/provisioning/mysql/{body['id']}"
        assert read(client).status == 200
        assert client.get(path).status == 200
        assert client.post(f"{path}/extend").status == 200
        assert client.post(f"{path}/kill").body == {"status": "ok"}
        assert client.delete(path).body == {"status": "ok"}


def test_a_deployment_may_require_a_feature_and_switch_the_flags_off(
    storage: StorageSimulator, make_service: ServiceMaker, token: str, project: str
) -> None:
    environment = {
        "STORAGE_API_URL": storage.url,
        "TOKEN_CACHE_SECONDS": "0",
        "MYSQL_REQUIRED_FEATURE": "early-mysql",
        "PROJECT_FLAGS_CHECK": "off",
    }
    with make_service(environment) as service:
        client = service.client(token)
        storage.accept(token, project, project)
        require_disabled(client.post("/provisioning/mysql"), "mysql", project)
        owner = {"hasMysql": False, "features": ["early-mysql"]}
        storage.accept(token, project, project, owner=owner)
        assert client.post("/provisioning/mysql").status == 201
