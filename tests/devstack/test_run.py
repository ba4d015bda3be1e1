"""`make run` as a newcomer uses it: start, paste the printed lines, Ctrl-C, start again."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.ports import HOST, HeldPort
from devstack.postgres import Postgres
from devstack.processes import descendants
from devstack.procfile import TREE
from tests.support.deadlines import LONG_DEADLINE, wait_until

READY = "Ctrl-C stops everything"
#: `python -m devstack`, with every command that it starts in a file.
RECORDED = """
import json, os, runpy, sys
record = open(sys.argv.pop(1), "a", buffering=1)

def note(event, arguments):
    if event == "subprocess.Popen":
        print(json.dumps([os.fsdecode(one) for one in arguments[1]]), file=record)

sys.addaudithook(note)
runpy.run_module("devstack", run_name="__main__", alter_sys=True)
"""
#: Programs that make what later starts find: data directories, images, software.
MAKERS = {"mariadb-install-db", "initdb"}
INSTALLERS = {"mmdebstrap", "apt-get", "apt-cache", "sudo", "pip"}


class Run:
    """`python -m devstack` with its output in a file, as when it is not at a terminal."""

    def __init__(self, directory: Path, port: int) -> None:
        self.output = directory.with_suffix(".out")
        self.record = directory.with_suffix(".commands")
        self.record.write_text("")
        with self.output.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-c", RECORDED, str(self.record), "--directory", str(directory)],
                env={**os.environ, "PORT": str(port)},
                cwd=TREE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def programs(self) -> set[str]:
        """The names of the programs that it has started, and of their arguments."""
        commands = [json.loads(line) for line in self.record.read_text().splitlines()]
        return {os.path.basename(part) for command in commands for part in command}

    def wait_until_ready(self) -> None:
        """Wait for the last line of the welcome."""
        over = lambda: READY in self.text or self.child.poll() is not None  # noqa: E731
        wait_until(over, timeout=LONG_DEADLINE, what=READY)
        assert READY in self.text, self.text

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Interrupt it; the exit code. Nothing it started may be left."""
        family = descendants(self.child.pid)
        self.child.send_signal(number)
        code = self.child.wait(LONG_DEADLINE)
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
        ["sh", "-c", line], capture_output=True, text=True, check=True, timeout=LONG_DEADLINE
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


def images_of_the_tests(request: pytest.FixtureRequest) -> set[str]:
    """Return the images that the runs find, if there is an engine."""
    if "docker_engine" not in request.fixturenames:
        return set()
    engine: DockerEngine = request.getfixturevalue("docker_engine")
    with closing(engine.client()) as client:
        return {image.id for image in client.images.list(all=True)}


def test_first_session_restart_and_second_start(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if MariaDB.missing() or Postgres.missing():
        pytest.skip("mariadbd or postgres is not installed")
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
        wait_until(lambda: "starting it again" in first.text, what="a restart")
        wait_until(lambda: answers(look), what="the restarted front")
        token = first.token()
        settings = tmp_path / "data" / "env"
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        # What `make shell` does, and an operator in it.
        command = f". {settings} && provisioning tokens create --project 70 --person 5"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        made = subprocess.check_output(["sh", "-c", command], env={"PATH": path}, text=True)
        assert paste(look.replace(token, made.split()[-1]))["code"] == 404
        assert first.programs >= MAKERS
    finally:
        assert first.stop() == 0
    assert not settings.exists()

    images = images_of_the_tests(request)
    with socket.create_server((HOST, port)):
        second = Run(tmp_path / "data", port)
        try:
            second.wait_until_ready()
            assert not second.programs & (MAKERS | INSTALLERS), "what was made is there"
            assert images_of_the_tests(request) == images
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
    wait_until(lambda: descendants(run.child.pid), what="a first child")
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
