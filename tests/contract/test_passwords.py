"""New passwords, and logins that are out of step with the state (contract 5.7, 6.1.2)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from provisioning.configuration.secrets import generate_password
from provisioning.state.claims import take
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Login
from tests.contract.conftest import new_project
from tests.contract.expectations import require_error, require_not_found
from tests.contract.server_look import require_dead, require_login, require_no_login, run
from tests.support.client import Client
from tests.support.hunt import HUNT
from tests.support.servers import connect_as
from tests.support.service import Service

CHANGED = "Changed-by-me-1"


def change_password(credentials: dict[str, Any]) -> None:
    """Change the password as the owner of the login."""
    with connect_as(credentials) as connection:
        run(connection, f"SET PASSWORD = PASSWORD('{CHANGED}')")


def path_of(body: dict[str, Any]) -> str:
    return f"/provisioning/mysql/{body['id']}/password"


def events_of(service: Service, body: dict[str, Any]) -> list[tuple[str, str]]:
    found = newest_events(service.installation.database, 20, credentials_id=int(body["id"]))
    return [(event.action, event.token_id) for event in found]


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_repeated_create_mends_a_login_whose_owner_changed_the_password(
    client: Client, service: Service, type_: str
) -> None:
    created = client.create(type_)
    change_password(created["credentials"])
    require_no_login(created["credentials"])
    assert client.create(type_) == created
    require_login(created["credentials"])
    actions = [action for action, _ in events_of(service, created)]
    assert actions == ["credentials.created", "credentials.password_mended"]


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_new_password_is_answered_like_a_read_and_the_old_one_is_over(
    client: Client, service: Service, type_: str
) -> None:
    created = client.create(type_)
    with connect_as(created["credentials"]) as session:
        answer = client.post(path_of(created))
        assert answer.status == 200, answer
        # Who is logged in stays so.
        run(session, "SELECT 1")
    renewed = answer.body
    assert isinstance(renewed.pop("inUse"), bool)
    read = client.get(f"/provisioning/mysql/{created['id']}").body
    assert isinstance(read.pop("inUse"), bool)
    assert renewed == read
    assert renewed["touch"] == created["touch"]
    old, new = created["credentials"], renewed["credentials"]
    assert {**old, "password": new["password"]} == new and old != new
    require_login(new)
    require_no_login(old)
    assert client.create(type_)["credentials"] == new
    token_id = client.token.split("-")[1] if client.token else ""
    events = events_of(service, created)
    assert events[-1] == ("credentials.password_reset", token_id)
    HUNT.add_secret("password", new["password"])


def test_open_sessions_end_where_that_is_asked_for(client: Client) -> None:
    created = client.create("transformations")
    session = connect_as(created["credentials"])
    assert client.post(path_of(created), {"endSessions": True}).status == 200
    require_dead(session)


def test_an_owner_who_changed_the_password_gets_a_new_one(client: Client) -> None:
    created = client.create()
    change_password(created["credentials"])
    require_login(client.post(path_of(created), {"endSessions": False}).body["credentials"])


def test_a_shared_login_has_one_password_for_all_its_credentials(service: Service) -> None:
    person = new_project()
    tokens = [service.token(project=new_project(), person=person) for _ in range(2)]
    first, second = (service.client(token) for token in tokens)
    bodies = [first.create(), second.create()]
    session = connect_as(bodies[1]["credentials"])
    new = first.post(path_of(bodies[0]), {"endSessions": True}).body["credentials"]
    require_dead(session)
    read = second.get(f"/provisioning/mysql/{bodies[1]['id']}").body["credentials"]
    assert read["password"] == new["password"] != bodies[1]["credentials"]["password"]
    require_login(new)
    require_login(read)
    third = service.client(service.token(project=new_project(), person=person)).create()
    assert third["credentials"]["password"] == new["password"]
    for body in bodies:
        assert "credentials.password_reset" in [action for action, _ in events_of(service, body)]


def test_a_new_sandbox_mends_the_login_that_it_shares(service: Service) -> None:
    person = new_project()
    first, second = (
        service.client(service.token(project=new_project(), person=person)) for _ in range(2)
    )
    created = first.create()
    change_password(created["credentials"])
    body = second.create()
    assert body["credentials"]["password"] == created["credentials"]["password"]
    require_login(body["credentials"])
    require_login(created["credentials"])


def test_new_passwords_at_the_same_moment_end_with_one_that_works(
    client: Client, service: Service
) -> None:
    created = client.create()
    fronts = [service.client(client.token, front=number % 2) for number in range(6)]
    barrier = threading.Barrier(len(fronts))

    def renew(front: Client) -> int:
        barrier.wait()
        return front.post(path_of(created)).status

    with ThreadPoolExecutor(len(fronts)) as executor:
        statuses = set(executor.map(renew, fronts))
    # Who finds no place to wait repeats it.
    assert 200 in statuses and statuses <= {200, 503}
    read = client.get(f"/provisioning/mysql/{created['id']}").body
    require_login(read["credentials"])


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_password_that_a_dead_process_left_pending_is_set_by_the_next_read(
    client: Client, service: Service, type_: str
) -> None:
    created = client.create(type_)
    number, pending = int(created["id"]), generate_password()
    sealed = service.installation.vault.encrypt(pending)
    with service.installation.database.write() as session:
        row = session.get_one(Credentials, number)
        row.pending_secret = sealed
        holder: tuple[type[Credentials] | type[Login], int] = (Credentials, number)
        if row.login_id is not None:
            holder = (Login, row.login_id)
            session.get_one(Login, row.login_id).pending_secret = sealed
        session.flush()
        # The claim of the dead is waited for.
        assert take(session, *holder, 2)
    read = client.get(f"/provisioning/mysql?type={type_}").body
    assert read["credentials"]["password"] == pending.reveal()
    require_login(read["credentials"])
    require_no_login(created["credentials"])
    with service.installation.database.read() as session:
        settled: Any = session.get_one(*holder)
        assert settled.pending_secret is None and settled.claim_until is None
        row = session.get_one(Credentials, number)
        assert row.pending_secret is None and row.secret == settled.secret


def test_nobody_else_gets_a_new_password(client: Client, service: Service) -> None:
    created = client.create()
    require_not_found(service.client().post(path_of(created)))
    require_not_found(client.post("/provisioning/mysql/999999999999/password"))
    require_login(created["credentials"])


def test_what_the_body_may_say(client: Client) -> None:
    path = path_of(client.create())
    values: tuple[object, ...] = ("yes", 1, [])
    for value in values:
        answer = client.post(path, {"endSessions": value})
        message = "Parameter 'endSessions' is invalid: true or false is expected"
        require_error(answer, 400, "parameter_invalid", message)
    require_error(
        client.post(path, {"password": "mine"}),
        400,
        "parameter_unknown",
        "Parameter 'password' is not allowed. Allowed params are 'endSessions'",
    )


def test_sandboxes_have_no_password_to_set(client: Client) -> None:
    require_error(
        client.post("/provisioning/docker/1/password"),
        400,
        "backend_async_only",
        "Backend 'docker' supports only async actions.",
    )
