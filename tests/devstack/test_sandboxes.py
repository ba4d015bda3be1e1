"""The Docker part of `make run`: which engine, which settings, what the table says."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from devstack import images, packages, sandboxes
from devstack.docker import DockerEngine
from devstack.docker_network import NAMESPACES
from devstack.sandboxes import Sandboxes

TREE = Path(__file__).parents[2]
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[images.Image]:
    """The images asked for; none is made."""
    asked: list[images.Image] = []
    monkeypatch.setattr(images, "provide", lambda client, *wanted, say: asked.extend(wanted))
    return asked


def test_engine_that_answers_is_used_and_left_running(
    docker_engine: DockerEngine,
    made: list[images.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    found = Sandboxes(tmp_path)
    assert found.wanted_software() == [packages.MMDEBSTRAP]
    found.start({})
    assert (found.problem, found.is_own) == ("", False)
    assert made == [images.JUPYTER, images.RSTUDIO_STAND_IN]
    url = urlsplit(found.settings()["DOCKER_URL"])
    assert f"unix://{url.path}" == docker_engine.url
    assert parse_qs(url.query) == {
        "public_host": ["localhost"],
        "bind": ["127.0.0.1"],
        "ports": [sandboxes.PORTS],
        "jupyter_image": [images.JUPYTER.tag],
        "rstudio_image": [images.RSTUDIO_STAND_IN.tag],
    }
    found.stop()
    assert docker_engine.running


START_OWN = """
import sys
from pathlib import Path
from devstack import images, sandboxes
images.provide = lambda client, *wanted, say: print(client.info()["DockerRootDir"])
own = sandboxes.Sandboxes(Path(sys.argv[1]))
own.start({})
print(own.problem or own.is_own)
own.stop()
"""


def test_own_engine_is_started_where_none_answers(tmp_path: Path) -> None:
    if DockerEngine.missing() or os.geteuid() != 0:
        pytest.skip("Docker is not installed, or we are not root")
    host = f"provisioning-host-{os.getpid()}"
    inside = ["nsenter", f"--net={NAMESPACES / host}"]
    subprocess.run(["ip", "netns", "add", host], check=True)
    try:
        done = subprocess.run(
            [*inside, sys.executable, "-c", START_OWN, str(tmp_path)],
            env={**os.environ, "DOCKER_HOST": NOWHERE},
            cwd=TREE,
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["ip", "netns", "delete", host], check=True)
    assert done.stdout == f"{tmp_path / 'docker' / 'data'}\nTrue\n", done.stderr


@pytest.mark.parametrize("missing", ["docker", "mmdebstrap"])
def test_missing_package_is_the_reason(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    without = Sandboxes(tmp_path)
    without.start({missing: packages.Absence("not installed", "sudo apt-get install it")})
    assert without.problem == "not installed; to get it: sudo apt-get install it"
    assert without.settings() == {"DOCKER_URL": ""}


def test_without_root_there_is_no_engine_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    without = Sandboxes(tmp_path)
    assert without.wanted_software() == []
    without.start({})
    assert "no engine answers" in without.problem
    assert "needs root" in without.problem


def test_sample_table_is_written_once(
    docker_engine: DockerEngine,
    made: list[images.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    first = Sandboxes(tmp_path)
    first.start({})
    table = Path(first.settings()["STORAGE_DIRECTORY"], "tables", f"{sandboxes.SAMPLE_TABLE}.csv")
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == sandboxes.SAMPLE_ROWS
    assert rows[0] == {"id": "1", "city": "Praha", "price": "37"}
    table.write_text("changed")
    Sandboxes(tmp_path).start({})
    assert table.read_text() == "changed"
