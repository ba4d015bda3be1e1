"""Which storage a job gets, and what having none costs."""

import subprocess
import sys
from pathlib import Path

from provisioning.configuration import config
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.storage.base import TableQuery
from provisioning.storage.open import open_storage
from tests.storage.case import export
from tests.support.storage_simulator import StorageSimulator, Table

NEEDED = {
    "STATE_URL": "sqlite:////tmp/x.db",
    "BROKER_URL": "redis://127.0.0.1:6379/0",
    "ENCRYPTION_KEYS": generate_key().reveal(),
}


def test_without_a_storage_there_is_none() -> None:
    assert open_storage(config.load(NEEDED), Secret("token"), "1.2", lambda: None) is None


def test_a_directory_is_opened(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("a\n1\n")
    settings = config.load({**NEEDED, "STORAGE_DIRECTORY": str(tmp_path)})
    storage = open_storage(settings, Secret("token"), "1.2", lambda: None)
    assert storage is not None
    assert export(storage, TableQuery("t")) == '"a"\n"1"\n'


def test_the_storage_api_comes_first(
    simulator: StorageSimulator, token: str, tmp_path: Path
) -> None:
    simulator.add_table(Table("t", ["b"], [["2"]]))
    settings = config.load(
        {**NEEDED, "STORAGE_API_URL": f"{simulator.url}/", "STORAGE_DIRECTORY": str(tmp_path)}
    )
    storage = open_storage(settings, Secret(token), "1.2", lambda: None)
    assert storage is not None
    assert export(storage, TableQuery("t")) == '"b"\n"2"\n'
    assert {request.headers["X-KBC-RunId"] for request in simulator.requests} == {"1.2"}


def test_the_clients_are_not_loaded_before_they_are_used() -> None:
    script = "import sys, provisioning.storage.open; print('requests' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
