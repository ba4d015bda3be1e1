"""Child processes, the waiting for them, and the ports held for them."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from devstack import processes
from devstack.ports import HOST, HeldPort, hold_port
from devstack.processes import Process, StartFailed, descendants, dying_with_parent
from tests.support.deadlines import wait_until


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process("sleeper", tmp_path / "sleeper.log")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that is not our child; nobody may have collected it yet."""
    wait_until(
        lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z",
        what=f"end of process {pid}",
    )


def test_wait_until_returns_the_answer() -> None:
    answers = iter(["", None, "yes"])
    assert processes.wait_until(lambda: next(answers), timeout=60, what="yes", interval=0) == "yes"


def test_wait_until_names_what_was_awaited() -> None:
    with pytest.raises(TimeoutError, match="the moon: not so within 0.05 s"):
        processes.wait_until(lambda: False, timeout=0.05, what="the moon")


def test_output_goes_to_the_log(process: Process) -> None:
    process.start(["sh", "-c", "echo one; echo two >&2"])
    wait_until(lambda: not process.running, what="the end")
    assert process.log_tail().splitlines() == ["one", "two"]
    assert process.returncode == 0


def test_stop_asks_first(process: Process) -> None:
    process.start(
        ["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep .02; done"]
    )
    wait_until(lambda: "up" in process.log_tail(), what="start")
    process.stop()
    assert process.returncode == 3
    assert "bye" in process.log_tail()


def test_stop_ends_one_that_does_not_listen(process: Process) -> None:
    process.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep .02; done"])
    wait_until(lambda: "up" in process.log_tail(), what="start")
    process.stop(timeout=0.2)
    assert process.returncode == -signal.SIGKILL


def test_kill_reaches_grandchildren_in_other_sessions(process: Process) -> None:
    process.start(["sh", "-c", "setsid sleep 600 & sleep 600"])
    wait_until(lambda: len(descendants(process.pid)) >= 2, what="two descendants")
    below = descendants(process.pid)
    process.kill()
    for pid in below:
        wait_for_end(pid)


def test_kill_reaches_what_a_dead_process_left_in_its_group(process: Process) -> None:
    process.start(["sh", "-c", "sleep 600 & echo $!"])
    wait_until(lambda: not process.running, what="the end of the parent")
    orphan = int(process.log_tail())
    process.kill()
    wait_for_end(orphan)


def test_pause_and_resume(process: Process) -> None:
    process.start(["sleep", "600"])
    process.pause()
    wait_until(lambda: state(process.pid) == "T", what="a stopped process")
    process.resume()
    wait_until(lambda: state(process.pid) != "T", what="a running process")
    process.stop()


def test_a_process_runs_once_at_a_time(process: Process) -> None:
    process.start(["sleep", "600"])
    with pytest.raises(StartFailed):
        process.start(["sleep", "600"])
    process.kill()
    process.start(["true"])
    process.stop()


def test_only_a_started_process_has_an_id(process: Process) -> None:
    process.stop()
    process.kill()
    assert process.returncode is None
    with pytest.raises(StartFailed):
        _ = process.pid


def test_dying_with_parent_keeps_the_process_id() -> None:
    command = dying_with_parent(["sh", "-c", "echo $$"])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert int(child.stdout.read()) == child.pid


def test_held_port_refuses_connections_and_belongs_to_nobody_else() -> None:
    held = HeldPort()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, held.number), timeout=2)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, held.number))
    socket.create_server((HOST, held.number)).close()
    held.release()


@pytest.mark.parametrize("content", [None, "", "nonsense", "99999999", "-1"])
def test_unusable_memory_of_a_port_gives_a_fresh_one(content: str | None, tmp_path: Path) -> None:
    remembered = tmp_path / "port"
    if content is not None:
        remembered.write_text(content)
    held = hold_port(remembered)
    assert held.number > 0
    held.release()
