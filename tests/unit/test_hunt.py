"""The hunt for secrets finds what is there, wherever it is, and does not repeat it."""

import base64
import json
from pathlib import Path

import pytest

from provisioning.backends.key_pairs import generate_key_pair
from provisioning.configuration.secrets import generate_password
from tests.support.hunt import Hunt

PASSWORD = generate_password().reveal()
TOKEN = "70-12-" + "0123456789abcdef" * 2 + "fedcba98"
KEY = "A1b2C3d4-e5f6" + "G7h8" * 7 + "_I9="


@pytest.fixture
def hunt() -> Hunt:
    hunt = Hunt()
    hunt.add_answer(json.dumps({"credentials": {"user": "u" * 20, "password": PASSWORD}}))
    hunt.add_secret("token", TOKEN)
    hunt.add_setting("ENCRYPTION_KEYS", KEY)
    hunt.add_setting("MYSQL_URL", "mysql://administrator0123:adminpassword0123@localhost:3306")
    hunt.add_setting("STATE_URL", "sqlite:////tmp/directory_of_a_test0/state.db")
    return hunt


def message(body: str) -> str:
    """Return a message of a job as the broker's MONITOR shows it."""
    text = json.dumps({"body": base64.b64encode(body.encode()).decode(), "headers": {}})
    return f'1700000000.1 [1 127.0.0.1:1] "LPUSH" "provisioning" {json.dumps(text)}\r\n'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f'{{"event": "made", "detail": "{PASSWORD}"}}', "password"),
        (f"x{PASSWORD}y", "password"),
        ("a" * 100 + PASSWORD + "b" * 100, "password"),
        (f"GET /provisioning/mysql?token={TOKEN}", "token"),
        (f"--keys={KEY}\0--more", "ENCRYPTION_KEYS"),
        ("could not connect to root:adminpassword0123@db", "MYSQL_URL"),
        (message(f'[["{PASSWORD}"], {{}}]'), "password"),
    ],
    ids=["json", "word", "long word", "query", "arguments", "address", "message"],
)
def test_a_secret_is_found(hunt: Hunt, tmp_path: Path, text: str, kind: str) -> None:
    file = tmp_path / "worker.log"
    file.write_text(f"before\n{text}\nafter")
    hunt.add_files(file)
    (found,) = hunt.find()
    assert found.startswith(f"{file}: {kind}, ")
    assert not any(secret in found for secret in (PASSWORD, TOKEN, KEY))


def test_a_text_is_searched_too(hunt: Hunt) -> None:
    hunt.add_text("arguments of processes", f"celery --password {PASSWORD}")
    assert hunt.find() == ["arguments of processes: password, 1 times"]


def test_a_private_key_is_found_and_its_public_one_is_none() -> None:
    hunt, (pair, public) = Hunt(), generate_key_pair()
    private = pair.reveal()
    hunt.add_answer(json.dumps({"privateKey": private}))
    hunt.add_text("row", public)
    assert not hunt.find()
    hunt.add_text("log", private)
    assert {found.partition(",")[0] for found in hunt.find()} == {"log: privateKey"}


def test_other_text_is_no_secret(hunt: Hunt, tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_bytes(f"{PASSWORD[:15]} {TOKEN[:20]} {'u' * 20} administrator0123".encode())
    hunt.add_files(file, tmp_path / "missing.log")
    hunt.add_text("arguments of processes", "--schedule /tmp/directory_of_a_test0/beat")
    hunt.add_text("broker", message('[[42], {"callbacks": null}]'))
    assert not hunt.find()
