"""Names of databases and logins (contract section 10)."""

import re
from collections.abc import Iterator

import pytest

from provisioning.access.tokens import LocalTokens
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.server_look import require_login
from tests.support.service import Service


def prefix_of(service: Service) -> str:
    return service.installation.prefix


def token_id_of(service: Service, project: str) -> str:
    rows = LocalTokens(service.installation.database).list()
    (row,) = [row for row in rows if row.project_id == project]
    return str(row.id)


def test_the_prefix_is_a_code_of_four_characters(service: Service) -> None:
    assert re.fullmatch("[A-Za-z0-9]{4}_", prefix_of(service))


def test_a_sandbox_is_named_after_project_credential_and_person(
    service: Service, project: str
) -> None:
    person = new_project()
    body = service.client(service.token(project=project, person=person)).create()
    assert body["credentials"]["db"] == f"{prefix_of(service)}sand_{project}_{body['id']}"
    assert body["credentials"]["user"] == f"{prefix_of(service)}user_{person}"


def test_without_a_person_a_sandbox_login_is_named_after_the_token(
    service: Service, project: str
) -> None:
    body = service.client(service.token(project=project)).create()
    expected = f"{prefix_of(service)}user_t{token_id_of(service, project)}"
    assert body["credentials"]["user"] == expected


def test_a_transformations_database_and_login_have_one_name(service: Service, project: str) -> None:
    body = service.client(service.token(project=project, person="4")).create("transformations")
    expected = f"{prefix_of(service)}tran_{project}_{body['id']}"
    assert body["credentials"]["db"] == expected
    assert body["credentials"]["user"] == expected


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
@pytest.mark.parametrize("project_id", ["p" * 60, "9" * 64, "_" * 30, "pro-ject.7 `'\\%"])
def test_long_and_odd_ids_still_make_good_names(
    service: Service, project_id: str, type_: str
) -> None:
    person = f"{project_id[:50]}{new_project()}"
    body = service.client(service.token(project=project_id, person=person)).create(type_)
    db, user = body["credentials"]["db"], body["credentials"]["user"]
    assert re.fullmatch("[A-Za-z0-9_]{1,64}", db)
    assert re.fullmatch("[A-Za-z0-9_]{1,32}", user)
    for name in (db, user):
        assert name.startswith(prefix_of(service))
    require_login(body["credentials"])


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_name_that_is_too_long_is_cut_and_ends_in_digits_of_its_digest(
    service: Service, type_: str
) -> None:
    person = f"{'7' * 50}{new_project()}"
    token = service.token(project="8" * 64, person=person)
    body = service.client(token).create(type_)
    start = f"{prefix_of(service)}{type_[:4]}_888888888888888888"
    assert re.fullmatch(f"{start}8*_[0-9a-f]{{8}}", body["credentials"]["db"])
    assert re.search("_[0-9a-f]{8}$", body["credentials"]["user"])
    require_login(body["credentials"])


def test_two_long_ids_never_make_one_name(service: Service) -> None:
    people = ["7" * 50 + end for end in ("1", "2")]
    users = {
        service.client(service.token(project=new_project(), person=person)).create()["credentials"][
            "user"
        ]
        for person in people
    }
    assert len(users) == 2


@pytest.fixture(scope="module")
def unprefixed(make_service: ServiceMaker) -> Iterator[Service]:
    with make_service({"NAME_PREFIX": ""}, workers=1) as service:
        yield service


def test_an_empty_prefix_gives_exactly_the_tables_names(unprefixed: Service) -> None:
    project, person = new_project(), new_project()
    client = unprefixed.client(unprefixed.token(project=project, person=person))
    sandbox, transformations = client.create("sandbox"), client.create("transformations")
    assert sandbox["credentials"]["db"] == f"sand_{project}_{sandbox['id']}"
    assert sandbox["credentials"]["user"] == f"user_{person}"
    name = f"tran_{project}_{transformations['id']}"
    assert transformations["credentials"]["db"] == name
    assert transformations["credentials"]["user"] == name
    alone = new_project()
    body = unprefixed.client(unprefixed.token(project=alone)).create()
    assert body["credentials"]["user"] == f"user_t{token_id_of(unprefixed, alone)}"
    for made in (sandbox, transformations):
        require_login(made["credentials"])
        assert client.delete(f"/provisioning/mysql/{made['id']}").body == {"status": "ok"}


def test_a_configured_prefix_starts_every_name(make_service: ServiceMaker) -> None:
    with make_service({"NAME_PREFIX": "acme_"}) as service:
        client = service.client()
        for type_ in ("sandbox", "transformations"):
            credentials = client.create(type_)["credentials"]
            assert credentials["db"].startswith(f"acme_{type_[:4]}_70_")
            assert credentials["user"].startswith("acme_")
