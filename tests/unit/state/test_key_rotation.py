"""Rotation of encryption keys: every encrypted value, nothing that changed meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import String, select, update

from provisioning.backends.docker.certificate import read_authority
from provisioning.cli.main import cli
from provisioning.configuration.secrets import Sealed, Secret, Vault, generate_key
from provisioning.state import failpoints
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.enums import (
    CallbackState,
    CredentialsState,
    JobCommand,
    JobStatus,
    ServerMode,
)
from provisioning.state.key_rotation import BATCH, SealedColumn, Tally, rotate_keys, sealed_columns
from provisioning.state.models import (
    AdminSecret,
    Base,
    Callback,
    Credentials,
    Job,
    Login,
    RegisteredServer,
)
from tests.support.servers import empty_state

#: How an encrypted value begins: the version and the highest bytes of the time.
MARK = "gAAAAA"
OLD, NEW = generate_key(), generate_key()
OWNER = {
    "project_id": "70",
    "project_name": "",
    "token_id": "1",
    "token_description": "",
    "backend": "mysql",
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = empty_state(request, request.param, tmp_path)
    prepare_state(database)
    yield database
    database.dispose()


def credentials(id_: int, secret: str, private_key: str | None = None) -> Credentials:
    return Credentials(
        **OWNER,
        id=id_,
        type="sandbox",
        state=CredentialsState.ACTIVE,
        server="default",
        user_name="u",
        object_name="o",
        secret=secret,
        private_key=private_key,
        created_at=0,
        touched_at=0,
    )


def fill(database: Database, vault: Vault, count: int) -> None:
    """Record rows with a value in every encrypted column."""

    def seal(text: str) -> Sealed:
        return vault.encrypt(Secret(text))

    with database.write() as session:
        for id_ in range(1, count + 1):
            row = credentials(id_, seal(f"password {id_}"), seal(f"key {id_}"))
            row.pending_secret = seal(f"next password {id_}")
            session.add(row)
        session.add(credentials(count + 1, ""))
        login = Login(id=1, server="s", person="p", user_name="u", secret=seal("login"))
        login.pending_secret = seal("next login")
        session.add(login)
        session.add(
            Job(
                **OWNER,
                id=1,
                run_id="1",
                command=JobCommand.CREATE,
                status=JobStatus.WAITING,
                params={},
                request=seal("request"),
                result={},
                slot="s",
                created_at=0,
            )
        )
        session.add(
            RegisteredServer(
                id=1,
                host="h",
                port=1,
                user_name="u",
                secret=seal("server"),
                mode=ServerMode.ACTIVE,
                alive=True,
                created_at=0,
            )
        )
        session.add(
            AdminSecret(
                id=1, backend="b", server="s", secret=seal("admin"), pending=seal("pending")
            )
        )
        url = seal("https://hooks.example.com/1")
        session.add(Callback(id=1, state=CallbackState.OPEN, url=url, job_url=""))
    read_authority(database, vault)


def sealed_values(database: Database) -> dict[str, list[Sealed]]:
    """Return what looks encrypted anywhere in the database, by column."""
    found: dict[str, list[Sealed]] = {}
    with database.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, String):
                    rows = connection.execute(select(column).where(column.like(f"{MARK}%")))
                    if values := [Sealed(row[0]) for row in rows]:
                        found[f"{table.name}.{column.name}"] = values
    return found


def test_all_encrypted_values_come_under_the_first_key(database: Database) -> None:
    fill(database, Vault((OLD,)), BATCH + 5)
    before = sealed_values(database)
    # A column with encrypted values that the rotation does not know would show here.
    assert set(before) == {str(column) for column in sealed_columns()}
    done: list[str] = []
    rotating = Vault((NEW, OLD))

    def note(column: SealedColumn, tally: Tally) -> None:
        done.append(str(column))

    assert rotate_keys(database, rotating, note) == {}
    assert set(done) == set(before)
    after = sealed_values(database)
    opened = {
        name: sorted(Vault((NEW,)).decrypt(value).reveal() for value in values)
        for name, values in after.items()
    }
    assert opened == {
        name: sorted(Vault((OLD,)).decrypt(value).reveal() for value in values)
        for name, values in before.items()
    }
    # A second run finds nothing to do.
    done.clear()
    assert rotate_keys(database, rotating, note) == {}
    assert not done
    assert sealed_values(database) == after


def test_a_value_that_changes_meanwhile_is_not_overwritten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, Vault((OLD,)), 2)
    # Somebody who still has the old key in front writes between our look and our change.
    fresh = Vault((OLD,)).encrypt(Secret("fresh"))
    rotating, original = Vault((NEW, OLD)), Vault.decrypt
    changed: list[bool] = []

    def decrypt(vault: Vault, sealed: Any) -> Secret:
        opened = original(vault, sealed)
        if opened == Secret("password 1") and not changed:
            changed.append(True)
            with database.write() as session:
                session.execute(update(Credentials).values(secret=fresh))
        return opened

    monkeypatch.setattr(Vault, "decrypt", decrypt)
    assert rotate_keys(database, rotating, lambda *_: None) == {}
    assert changed
    with database.read() as session:
        secrets = session.scalars(select(Credentials.secret)).all()
    assert {Vault((NEW,)).decrypt(secret).reveal() for secret in secrets} == {"fresh"}


def test_a_value_that_no_key_opens_is_told_of_and_left(database: Database) -> None:
    fill(database, Vault((generate_key(),)), 1)
    before = sealed_values(database)
    left = rotate_keys(database, Vault((NEW, OLD)), lambda *_: None)
    assert {name: tally.unreadable for name, tally in left.items()} == dict.fromkeys(before, 1)
    assert sealed_values(database) == before


def test_the_command_goes_on_where_it_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": f"{NEW.reveal()},{OLD.reveal()}",
    }
    database = Database(Secret(environment["STATE_URL"]), 1)
    prepare_state(database)
    fill(database, Vault((OLD,)), BATCH + 5)

    def rotate() -> Result:
        return CliRunner().invoke(cli, ["keys", "rotate"], env=environment)

    monkeypatch.setattr(failpoints, "_DIRECTORY", str(tmp_path))
    (tmp_path / "keys.batch").write_text("error")
    assert isinstance(rotate().exception, failpoints.FailpointError)
    ended = rotate()
    assert ended.exit_code == 0, ended.output
    assert ended.output.endswith("the other keys can be removed\n")
    assert f"credentials.private_key: {BATCH} of {BATCH} values" in ended.output
    foreign = Vault((generate_key(),)).encrypt(Secret("foreign"))
    with database.write() as session:
        session.execute(update(Login).values(secret=foreign))
    refused = rotate()
    assert refused.exit_code == 1
    assert "logins.secret: no configured key opens 1 values" in refused.output
    database.dispose()
