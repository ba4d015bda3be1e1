"""The authority of an installation's sandboxes is made once and kept encrypted."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioning.backends.docker.certificate import read_authority
from provisioning.configuration.secrets import Secret, Vault, generate_key, generate_password
from provisioning.state.bootstrap import prepare_state, read_sealed
from provisioning.state.database import Database
from provisioning.state.key_rotation import rotate_keys


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(Secret(f"sqlite:///{tmp_path}/state.db"), 8)
    prepare_state(database)
    return database


def test_processes_that_race_get_the_same_authority(database: Database) -> None:
    vault = Vault((generate_key(),))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_authority(database, vault), range(4)))
    assert len({authority.certificate_pem for authority in found}) == 1
    assert len({authority.private_key_pem for authority in found}) == 1


def test_its_key_is_not_in_the_state_in_clear(database: Database) -> None:
    read_authority(database, Vault((generate_key(),)))
    with database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, value FROM settings").fetchall()
    assert {"authority", "code"} == {row[0] for row in rows}
    assert not [row for row in rows if "PRIVATE KEY" in row[1] or "CERTIFICATE" in row[1]]


def test_a_secret_survives_the_rotation_of_keys(database: Database) -> None:
    old, new = generate_key(), generate_key()
    made = read_sealed(database, Vault((old,)), "lock secret", generate_password)
    rotate_keys(database, Vault((new, old)), lambda column, tally: None)
    assert read_sealed(database, Vault((new,)), "lock secret", generate_password) == made
