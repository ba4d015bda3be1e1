"""What Snowflake workspaces log in with, over HTTP: passwords, key pairs and access tokens.

Each type is made in another way here, by a server of its own on the one simulated account.
"""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.errors import Error
from sqlalchemy import select, update

from provisioning.backends.key_pairs import fingerprint, generate_key_pair
from provisioning.state.models import Credentials
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import require_error
from tests.support.client import Answer, Client
from tests.support.deadlines import DEADLINE, ENDLESS, wait_until
from tests.support.service import Service
from tests.support.snowflake import Account, run, simulated_account

PATH = "/provisioning/snowflake"
PASSWORD, PAIR, SERVICE, TOKEN = "luckyguess", "transformations", "sandbox", "writer"
OPTIONS: dict[str, dict[str, Any]] = {
    PASSWORD: {},
    PAIR: {"key_pairs": True},
    SERVICE: {"user_type": "SERVICE"},
    TOKEN: {"user_type": "SERVICE", "access_tokens": True},
}
BAD_LOGIN, BAD_KEY, CANCELLED = 390100, 390144, 604
PRIVATE, PUBLIC = generate_key_pair()
PEM = f"-----BEGIN PUBLIC KEY-----\n{PUBLIC}\n-----END PUBLIC KEY-----\n"
ANOTHER = generate_key_pair()[1]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with simulated_account(tmp_path_factory.mktemp("snowflake")) as account:
        yield account


@pytest.fixture(scope="module")
def failpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failpoints")


@pytest.fixture(scope="module")
def service(
    make_service: ServiceMaker,
    account: Account,
    failpoints: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("servers") / "servers.toml"
    file.write_text("".join(_table(account, type_, more) for type_, more in OPTIONS.items()))
    environment = {"SERVERS_FILE": str(file), "PROVISIONING_FAILPOINTS": str(failpoints)}
    with make_service(environment, workers=1, beats=1) as service:
        yield service


def _table(account: Account, type_: str, more: dict[str, Any]) -> str:
    values = {"name": f"for-{type_}", "types": [type_], **account.address, **more}
    return "[[snowflake]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items())


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def ask(client: Client, type_: str, key: str | None = None) -> Answer:
    return client.post(PATH, {"type": type_, "publicKey": key})


def create(client: Client, type_: str, key: str | None = None) -> dict[str, Any]:
    answer = ask(client, type_, key)
    assert answer.status == 201, answer
    body: dict[str, Any] = answer.body
    return body


def refused(log_in: Any, *arguments: Any) -> int:
    """Log in, which has to fail, and return the error's number."""
    with pytest.raises(Error) as caught:
        log_in(*arguments)
    return int(caught.value.errno)


# What is handed out ---------------------------------------------------------------------


def test_a_key_pair_stands_beside_the_password_and_both_log_in(
    account: Account, client: Client
) -> None:
    body = create(client, PAIR)
    credentials = body["credentials"]
    assert re.fullmatch("[A-Za-z0-9_]{16,}", credentials["password"])
    account.log_in(credentials).close()
    account.log_in_by_key(credentials, credentials["privateKey"]).close()
    assert "publicKeyFingerprint" not in credentials
    assert create(client, PAIR) == body
    for address in (f"{PATH}?type={PAIR}", f"{PATH}/{body['id']}"):
        assert client.get(address).body["credentials"] == credentials


def test_a_service_user_has_a_key_pair_and_an_empty_password(
    account: Account, client: Client
) -> None:
    body = create(client, SERVICE)
    credentials = body["credentials"]
    assert credentials["password"] == ""
    with closing(account.log_in_by_key(credentials, credentials["privateKey"])) as connection:
        run(connection, "CREATE TABLE t (a INT)")
    assert create(client, SERVICE) == body
    assert client.get(f"{PATH}/{body['id']}").body["credentials"] == credentials


def test_an_access_token_in_the_passwords_place_logs_in(account: Account, client: Client) -> None:
    body = create(client, TOKEN)
    credentials = body["credentials"]
    with closing(account.log_in(credentials)) as connection:
        assert run(connection, "SELECT CURRENT_ROLE()") == [(credentials["user"],)]
    account.log_in_by_key(credentials, credentials["privateKey"]).close()
    assert create(client, TOKEN) == body
    assert client.post(f"{PATH}/{body['id']}/extend").status == 200
    assert client.get(f"{PATH}/{body['id']}").body["credentials"] == credentials


def test_an_extend_renews_a_token_that_ends_soon_and_the_old_one_goes_on(
    service: Service, account: Account, client: Client
) -> None:
    body = create(client, TOKEN)
    with service.installation.database.write() as session:
        session.execute(
            update(Credentials)
            .where(Credentials.id == int(body["id"]))
            .values(password_ends_at=Credentials.password_ends_at - 200 * 86_400_000)
        )
    assert client.post(f"{PATH}/{body['id']}/extend").status == 200
    renewed = client.get(f"{PATH}/{body['id']}").body["credentials"]
    assert renewed["password"] != body["credentials"]["password"]
    assert {**renewed, "password": ""} == {**body["credentials"], "password": ""}
    for credentials in (renewed, body["credentials"]):
        account.log_in(credentials).close()
    assert client.post(f"{PATH}/{body['id']}/extend").status == 200
    assert create(client, TOKEN)["credentials"] == renewed


@pytest.mark.parametrize("type_", OPTIONS)
def test_a_new_password_is_of_the_kind_that_the_workspace_has(
    account: Account, client: Client, type_: str
) -> None:
    body = create(client, type_)
    answer = client.post(f"{PATH}/{body['id']}/password")
    assert answer.status == 200, answer
    old, new = body["credentials"], answer.body["credentials"]
    assert {**new, "password": ""} == {**old, "password": ""}
    # Without a password there is none to renew: the key stays.
    assert (new["password"] == old["password"]) == (old["password"] == "")
    if "privateKey" in new:
        account.log_in_by_key(new, new["privateKey"]).close()
    if new["password"]:
        account.log_in(new).close()
        with pytest.raises(Error):
            account.log_in(old)


# The caller's key -----------------------------------------------------------------------


@pytest.mark.parametrize("type_", OPTIONS)
def test_the_callers_key_logs_in_and_we_hold_no_private_one(
    service: Service, account: Account, client: Client, type_: str
) -> None:
    body = create(client, type_, PEM)
    credentials = body["credentials"]
    assert credentials["publicKeyFingerprint"] == fingerprint(PUBLIC)
    assert "privateKey" not in credentials
    account.log_in_by_key(credentials, PRIVATE.reveal()).close()
    assert (credentials["password"] == "") is (type_ == SERVICE)
    if type_ != SERVICE:
        account.log_in(credentials).close()
    with service.installation.database.read() as session:
        row = session.get_one(Credentials, int(body["id"]))
        assert (row.public_key, row.private_key) == (PUBLIC, None)


def test_the_same_key_in_any_form_or_none_gives_the_same_workspace(client: Client) -> None:
    body = create(client, PASSWORD, PEM)
    for key in (None, PUBLIC, PEM, PEM.replace("\n", "\r\n")):
        assert create(client, PASSWORD, key) == body


def test_the_public_half_of_a_pair_of_ours_is_the_same_key(
    service: Service, client: Client
) -> None:
    body = create(client, SERVICE)
    with service.installation.database.read() as session:
        ours = session.get_one(Credentials, int(body["id"])).public_key
    assert create(client, SERVICE, ours) == body


@pytest.mark.parametrize(
    ("type_", "first"),
    [(PASSWORD, PUBLIC), (PASSWORD, None), (SERVICE, None)],
    ids=["the caller's", "none", "ours"],
)
def test_another_key_is_refused_until_the_workspace_is_deleted(
    account: Account, client: Client, type_: str, first: str | None
) -> None:
    body = create(client, type_, first)
    error = require_error(ask(client, type_, ANOTHER), 400, "parameter_invalid", None)
    assert error["message"].startswith("Parameter 'publicKey' is invalid: ")
    assert "another key" in error["message"] and "delete" in error["message"]
    assert create(client, type_) == body
    assert client.delete(f"{PATH}/{body['id']}").status == 200
    fresh = create(client, type_, ANOTHER)
    assert fresh["id"] != body["id"]
    assert fresh["credentials"]["publicKeyFingerprint"] == fingerprint(ANOTHER)


def test_of_two_keys_at_the_same_moment_one_wins(client: Client) -> None:
    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(lambda key: ask(client, SERVICE, key), (PUBLIC, ANOTHER) * 2))
    assert sorted(answer.status for answer in answers) == [201, 201, 400, 400]
    made = [answer.body for answer in answers if answer.status == 201]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "key",
    ["", "no key", 7, PRIVATE.reveal(), PUBLIC[:-4]],
    ids=["empty", "words", "number", "private", "cut"],
)
def test_a_bad_key_is_named_and_not_quoted(client: Client, key: Any) -> None:
    answer = client.post(PATH, {"type": PASSWORD, "publicKey": key})
    error = require_error(answer, 400, "parameter_invalid", None)
    assert error["message"].startswith("Parameter 'publicKey' is invalid: ")
    assert len(error["message"]) < 150
    assert client.get(f"{PATH}?type={PASSWORD}").status == 404


def test_a_key_is_a_parameter_of_snowflake_alone(client: Client) -> None:
    for backend in ("mysql", "redshift-workspace", "postgresql"):
        answer = client.post(f"/provisioning/{backend}", {"publicKey": PEM})
        message = "Parameter 'publicKey' is not allowed. Allowed params are 'type,ttl'"
        require_error(answer, 400, "parameter_unknown", message)
    message = "Parameter 'privateKey' is not allowed. Allowed params are 'type,ttl,publicKey'"
    answer = client.post(PATH, {"privateKey": "x"})
    require_error(answer, 400, "parameter_unknown", message)


# Life and end ---------------------------------------------------------------------------


@pytest.mark.parametrize("type_", [PAIR, SERVICE, TOKEN])
def test_kill_and_drop_end_the_sessions_of_every_kind_of_login(
    account: Account, client: Client, type_: str
) -> None:
    body = create(client, type_)
    address, credentials = f"{PATH}/{body['id']}", body["credentials"]
    key = credentials["privateKey"]
    with closing(account.log_in_by_key(credentials, key)) as connection:
        run(connection, "CREATE TABLE t (a INT)")
        assert client.post(f"{address}/kill").body == {"status": "ok"}
        with pytest.raises(Error):
            run(connection, "SELECT 1")
    with closing(account.log_in_by_key(credentials, key)) as connection:
        assert run(connection, "SELECT COUNT(*) FROM t") == [(0,)]
        ended = []

        def wait_long() -> None:
            try:
                run(connection, f"SELECT SYSTEM$WAIT({ENDLESS})")
            except Error as error:
                ended.append(error.errno)

        running = threading.Thread(target=wait_long)
        running.start()
        wait_until(lambda: account.is_running(credentials), what="a statement runs")
        assert client.get(address).body["inUse"] is True
        assert client.delete(address).body == {"status": "ok"}
        running.join(DEADLINE)
        assert ended == [CANCELLED]
        with pytest.raises(Error):
            run(connection, "SELECT 1")
    assert refused(account.log_in_by_key, credentials, key) == BAD_KEY
    if credentials["password"]:
        assert refused(account.log_in, credentials) == BAD_LOGIN
    assert account.remains(credentials) == []


@pytest.mark.parametrize("point", ["create.role", "create.issued"])
def test_another_process_finishes_a_creation_with_the_callers_key(
    account: Account, client: Client, failpoints: Path, point: str
) -> None:
    armed = failpoints / point
    armed.write_text("kill")
    with pytest.raises((HTTPException, OSError)):
        ask(client, TOKEN, PEM)
    assert not armed.exists()
    answers: list[Answer] = []

    def ask_again() -> bool:
        try:
            answers.append(ask(client, TOKEN))
        except (HTTPException, OSError):
            return False
        return answers[-1].status == 201

    wait_until(ask_again, what="the creation finished")
    credentials = answers[-1].body["credentials"]
    assert credentials["publicKeyFingerprint"] == fingerprint(PUBLIC)
    account.log_in_by_key(credentials, PRIVATE.reveal()).close()
    account.log_in(credentials).close()
    tokens = account.admin(f"SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER {credentials['user']}")
    assert len(tokens) == 1


def test_private_keys_and_tokens_are_with_their_owner_alone(
    service: Service, client: Client
) -> None:
    bodies = [create(client, type_) for type_ in OPTIONS]
    assert client.delete(f"{PATH}/{bodies[-1]['id']}").status == 200
    secrets = {
        value
        for body in bodies
        for name in ("password", "privateKey")
        for value in body["credentials"].get(name, "").splitlines()
        if value and "-----" not in value
    }
    assert len(secrets) > 60, "the lines of three private keys, and passwords"
    with service.installation.database.read() as session:
        rows = session.execute(select(*Credentials.__table__.columns)).all()
    places = service.logs() + "\n".join(map(str, rows))
    assert bodies[0]["credentials"]["user"] in places
    assert not [secret for secret in secrets if secret in places]


def test_a_drop_wipes_what_was_stored(service: Service, client: Client) -> None:
    body = create(client, PAIR)
    assert client.delete(f"{PATH}/{body['id']}").status == 200
    with service.installation.database.read() as session:
        row = session.get_one(Credentials, int(body["id"]))
        assert (row.secret, row.private_key) == ("", None)
