"""Scripts of the real RStudio image, as far as they run without RStudio Server.

They run in the local image with R. What RStudio Server does with them was not tried.
"""

import json
from collections.abc import Iterator

import pytest

from devstack import images
from devstack.docker import DockerEngine
from tests.support.sandbox import USER, Sandbox, running

SCRIPTS = ("pam-helper", "sandbox_activity.R")
SESSIONS = "/home/sandbox/.local/share/rstudio/sessions/active"


@pytest.fixture(scope="module")
def sandbox(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    files = {name: (images.SOURCES / "rstudio" / name).read_bytes() for name in SCRIPTS}
    directory = tmp_path_factory.mktemp("scripts")
    with running(engine, images.RSTUDIO_STAND_IN, 8787, files, directory, https=False) as ready:
        yield ready


@pytest.mark.parametrize(
    ("user", "password_end", "right"),
    [(USER, "", True), (USER, "\n", True), (USER, "x", False), ("somebody", "", False)],
)
def test_login_is_checked(sandbox: Sandbox, user: str, password_end: str, right: bool) -> None:
    line = 'printf %s "$1" | sh /data/pam-helper "$2"'
    status, output = sandbox.run("sh", "-c", line, "sh", sandbox.password + password_end, user)
    assert output == ""
    assert (status == 0) == right


def test_activity_is_read_from_the_notes_of_sessions(sandbox: Sandbox) -> None:
    def seen() -> object:
        status, output = sandbox.run("Rscript", "/data/sandbox_activity.R")
        assert status == 0, output
        return json.loads(output)

    assert seen() == {"busyKernels": 0, "lastActivity": None}
    for session, runs, executes, used in (("1", 1, 1, 1000), ("2", 0, 1, 86_400_000)):
        notes = f"{SESSIONS}/session-{session}/properites"
        line = f"mkdir -p {notes} && cd {notes} && printf {runs} > running"
        line += f" && printf {executes} > executing && printf {used} > last-used"
        assert sandbox.run("sh", "-c", line) == (0, "")
    assert seen() == {"busyKernels": 1, "lastActivity": "1970-01-02T00:00:00Z"}
