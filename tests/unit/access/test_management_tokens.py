"""Management tokens: who is let in, and how often."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from provisioning import errors
from provisioning.access.management_tokens import WRONG_TRIES, ManageTokens, RateLimit
from provisioning.cli.main import cli
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(Secret(f"sqlite:///{tmp_path}/state.db"), 2)
    prepare_state(database)
    yield database
    database.dispose()


def test_a_token_is_good_until_it_is_revoked(database: Database) -> None:
    tokens = ManageTokens(database)
    (first, token), (_, other) = tokens.create("ada"), tokens.create("grace")
    operator = tokens.verify(token, "7.8")
    assert (operator.id, operator.description, operator.run_id) == (str(first), "ada", "7.8")
    assert operator.author == f"operator:{first}"
    assert tokens.revoke(first) and not tokens.revoke(first)
    with pytest.raises(errors.ManageTokenInvalid):
        tokens.verify(token)
    assert tokens.verify(other).description == "grace"


def test_only_a_digest_is_kept(database: Database) -> None:
    _, token = ManageTokens(database).create("ada")
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM manage_tokens")).all()
    assert "ada" in repr(rows)
    assert token.reveal() not in repr(rows)


def test_after_many_wrong_tries_only_who_was_known_gets_in(database: Database) -> None:
    tokens = ManageTokens(database)
    (_, known), (_, fresh) = tokens.create("known"), tokens.create("fresh")
    tokens.verify(known)
    for number in range(WRONG_TRIES):
        with pytest.raises(errors.ManageTokenInvalid):
            tokens.verify(Secret(f"wrong {number}"))
    for refused in (Secret("wrong"), fresh):
        with pytest.raises(errors.RateLimited) as caught:
            tokens.verify(refused)
        assert 1 <= caught.value.seconds <= 60
    assert tokens.verify(known).description == "known"


def test_the_calls_of_each_token_are_counted(database: Database) -> None:
    tokens = ManageTokens(database, calls_per_minute=2)
    (_, busy), (_, calm) = tokens.create("busy"), tokens.create("calm")
    # The minute may end in between.
    with pytest.raises(errors.RateLimited):
        for _ in range(5):
            tokens.verify(busy)
    tokens.verify(calm)


def test_turns_come_back_with_the_next_minute() -> None:
    now = [100.0]
    rate = RateLimit(2, lambda: now[0])
    assert [rate.take("a"), rate.take("a"), rate.take("b")] == [0, 0, 0]
    assert rate.take("a") == rate.wait_for("a") == 20
    assert rate.wait_for("b") == 0
    now[0] = 120
    assert rate.take("a") == 0
    assert [RateLimit(0).take("a") for _ in range(1000)] == [0] * 1000


def test_tokens_are_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    environment = {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "memory://",
        "ENCRYPTION_KEYS": generate_key().reveal(),
    }

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, arguments, env=environment)
        assert result.exit_code == code, result.output
        return result.stdout

    run("db", "upgrade")
    token = run("manage-tokens", "create", "--description", "ada").strip()
    listed = run("manage-tokens", "list")
    assert "ada" in listed and "good" in listed and token not in listed
    run("manage-tokens", "revoke", "1")
    assert "revoked" in run("manage-tokens", "list")
    run("manage-tokens", "revoke", "1", code=1)
    run("manage-tokens", "create", code=2)
    run("manage-tokens", "create", "--description", "x" * 256, code=2)
