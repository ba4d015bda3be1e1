"""The operators' command, against real servers."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from provisioning.cli.main import cli
from provisioning.configuration.secrets import generate_key


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": generate_key().reveal(),
    }


def test_backends_check_names_every_server_and_fails_if_one_does_not_work(
    environment: dict[str, str], mariadb: MariaDB, postgres: Postgres
) -> None:
    login = postgres.url.partition("://")[2]
    good = {"MYSQL_URL": mariadb.url, "POSTGRESQL_URL": f"postgresql://{login}"}
    printed = CliRunner().invoke(cli, ["backends", "check"], env={**environment, **good})
    assert printed.exit_code == 0, printed.output
    assert printed.output.count(" works ") == 2
    wrong = mariadb.url.replace(mariadb.root_password, "hunter2")
    printed = CliRunner().invoke(
        cli, ["backends", "check"], env={**environment, "MYSQL_URL": wrong}
    )
    assert printed.exit_code == 1
    assert "does not work" in printed.output
    assert "hunter2" not in printed.output


def test_tokens_are_made_listed_and_revoked(environment: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    run("db", "upgrade")
    token = run("tokens", "create", "--project", "70", "--person", "4", "--description", "ada")
    assert token.startswith("70-1-")
    listed = run("tokens", "list")
    assert "ada" in listed
    assert token.strip() not in listed
    run("tokens", "revoke", "1")
    assert "revoked" in run("tokens", "list")
    again = CliRunner().invoke(cli, ["tokens", "revoke", "1"], env=environment)
    assert again.exit_code == 1


def test_a_project_that_cannot_be_in_a_header_is_refused(environment: dict[str, str]) -> None:
    result = CliRunner().invoke(cli, ["tokens", "create", "--project", "\xe9"], env=environment)
    assert result.exit_code == 2
    assert "project" in result.output


def test_a_limit_of_ours_that_there_is_not_is_refused(environment: dict[str, str]) -> None:
    create = ["tokens", "create", "--project", "70", "--limit"]
    result = CliRunner().invoke(cli, [*create, "provisioning.credential", "1"], env=environment)
    assert result.exit_code == 2
    assert "'provisioning.credential' is no limit" in result.output
    CliRunner().invoke(cli, ["db", "upgrade"], env=environment)
    for known in ("provisioning.credentials", "sandbox.expirationSeconds"):
        result = CliRunner().invoke(cli, [*create, known, "1"], env=environment)
        assert result.exit_code == 0, result.output
