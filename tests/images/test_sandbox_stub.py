"""The stub keeps the contract of images, and misbehaves when its script asks for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devstack import images
from devstack.docker import DockerEngine
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.sandbox import USER, Sandbox, running, started

STUB = images.STUB


@pytest.fixture(scope="module")
def sandbox(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(engine, STUB, 8888, {}, tmp_path_factory.mktemp("stub")) as ready:
        yield ready


def test_page_names_both_and_says_that_it_is_a_stub(sandbox: Sandbox) -> None:
    text = sandbox.browser().get(sandbox.url).text
    assert all(word in text for word in ("stub", "Jupyter", "RStudio"))


@pytest.mark.parametrize(
    ("wish", "seen"),
    [("exits", "exited"), ("never-ready", "refused"), ("fails", "500"), ("slow", "200")],
)
def test_misbehaves_as_its_script_asks(
    engine: DockerEngine, tmp_path: Path, wish: str, seen: str
) -> None:
    files = {"main.R": f"# stub: {wish}\n".encode()}
    with started(engine, STUB, 8787, files, tmp_path) as sandbox:
        wait_until(lambda: look(sandbox) == seen, what=seen)


def look(sandbox: Sandbox) -> str:
    """What a caller sees."""
    sandbox.container.reload()
    if sandbox.container.status == "exited":
        return "exited"
    try:
        return str(sandbox.browser().get(sandbox.url, timeout=DEADLINE).status_code)
    except requests.ConnectionError:
        return "refused"


def test_eats_memory_up_to_its_limit(engine: DockerEngine, tmp_path: Path) -> None:
    files = {"main.py": b"# stub: eats-memory\n"}
    with started(engine, STUB, 8888, files, tmp_path) as sandbox:
        assert sandbox.container.wait(timeout=DEADLINE)["StatusCode"] == 137
        sandbox.container.reload()
        assert sandbox.container.attrs["State"]["OOMKilled"]


def test_login_takes_the_right_user_and_password_only(sandbox: Sandbox) -> None:
    def status(user: str, password: str) -> int:
        browser = sandbox.browser()
        return browser.get(f"{sandbox.url}/login", auth=(user, password)).status_code

    assert status(USER, sandbox.password) == 200
    assert status(USER, "wrong") == 401
    assert status("somebody", sandbox.password) == 401
    assert sandbox.browser().get(f"{sandbox.url}/login").status_code == 401


def test_installs_what_is_not_missing(sandbox: Sandbox) -> None:
    assert sandbox.run("install-package", "anything")[0] == 0
    assert sandbox.run("install-package", "missing-package")[0] == 1
    assert sandbox.run("cat", "/home/sandbox/installed-packages") == (0, "anything\n")


def test_activity_is_what_a_test_says(sandbox: Sandbox) -> None:
    idle = {"busyKernels": 0, "lastActivity": None}
    assert json.loads(sandbox.run("sandbox-activity")[1]) == idle
    sandbox.run("sh", "-c", "echo '{\"busyKernels\": 2}' > $HOME/activity.json")
    assert json.loads(sandbox.run("sandbox-activity")[1]) == {"busyKernels": 2}
