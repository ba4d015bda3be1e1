"""`make run` as a newcomer uses it: start, paste the printed lines, Ctrl-C, start again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.ports import HOST, HeldPort
from devstack.processes import descendants, wait_until
from devstack.procfile import TREE

READY = "Ctrl-C stops everything"


class Run:
    """`python -m devstack` with its output in a file, as when it is not at a terminal."""

    def __init__(self, directory: Path, port: int) -> None:
        self.output = directory.with_suffix(".out")
        self.started = time.monotonic()
        with self.output.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "devstack", "--directory", str(directory)],
                env={**os.environ, "PORT": str(port)},
                cwd=TREE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> float:
        """Wait for the last line of the welcome; the seconds since the start."""
        wait_until(
            lambda: READY in self.text or self.child.poll() is not None, timeout=90, what=READY
        )
        assert READY in self.text, self.text
        return time.monotonic() - self.started

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Interrupt it; the exit code. Nothing it started may be left."""
        family = descendants(self.child.pid)
        self.child.send_signal(number)
        code = self.child.wait(timeout=40)
        for pid in family:
            assert not Path(f"/proc/{pid}").exists() or "Z" in state(pid), command_of(pid)
        return code

    def curl_lines(self) -> list[str]:
        return re.findall(r"^curl .*$", self.text, re.MULTILINE)

    def token(self) -> str:
        found = re.search(r"^Token of .*: (\S+)$", self.text, re.MULTILINE)
        assert found
        return found[1]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def paste(line: str) -> dict[str, object]:
    """Run a printed line in a shell, as somebody who pastes it does."""
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=True, timeout=60
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def free_port() -> int:
    held = HeldPort()
    held.release()
    return held.number


@pytest.fixture(autouse=True)
def docker_of_the_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs find an engine that has the images already, where there can be one."""
    if os.geteuid() == 0 and not DockerEngine.missing():
        engine: DockerEngine = request.getfixturevalue("docker_engine")
        monkeypatch.setenv("DOCKER_HOST", engine.url)


def test_first_session_restart_and_second_start(tmp_path: Path) -> None:
    if MariaDB.missing():
        pytest.skip("mariadbd is not installed")
    port = free_port()
    first = Run(tmp_path / "data", port)
    try:
        first.wait_until_ready()
        assert "mysql" in first.text
        assert re.search(r"snowflake .* on .*simulator, not Snowflake", first.text)
        assert re.search(r"docker .* on .*localhost:\d+-\d+ .*stand-in", first.text)
        create, look, drop, notebook, wait = first.curl_lines()
        assert "/provisioning/async/docker" in notebook and "/queue/job/" in wait
        created = paste(create)
        assert paste(look)["credentials"] == created["credentials"]
        web = next(pid for pid in descendants(first.child.pid) if "gunicorn" in command_of(pid))
        os.kill(web, signal.SIGKILL)
        wait_until(lambda: "starting it again" in first.text, timeout=10, what="a restart")
        wait_until(lambda: answers(look), timeout=20, what="the restarted front")
        token = first.token()
    finally:
        assert first.stop() == 0

    with socket.create_server((HOST, port)):
        second = Run(tmp_path / "data", port)
        try:
            # Below 5 s on a machine that does nothing else; other tests may run beside this one.
            assert second.wait_until_ready() < 10
            assert f"port {port} was taken" in second.text
            assert second.token() == token
            _, look, drop, *_ = second.curl_lines()
            assert paste(look)["id"] == created["id"]
            assert paste(drop) == {"status": "ok"}
        finally:
            assert second.stop(signal.SIGTERM) == 0


def answers(line: str) -> bool:
    try:
        return "id" in paste(line)
    except (subprocess.CalledProcessError, ValueError):
        return False


def test_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "data", free_port())
    wait_until(lambda: descendants(run.child.pid), timeout=20, what="a first child")
    assert run.stop() == 0
    assert READY not in run.text


def test_without_mariadb_the_rest_starts_and_the_table_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from devstack import packages, stack

    absence = packages.Absence("not installed", "sudo apt-get install it")
    monkeypatch.setattr(packages, "provide", lambda *wanted: {"mariadb": absence})
    started = stack.Stack(tmp_path / "data", port=free_port())
    try:
        started.start()
        rows = {part.name: part for part in started.parts()}
        assert rows["service"].on
        assert not rows["mysql"].on
        assert "sudo apt-get install it" in rows["mysql"].note
    finally:
        started.stop()
