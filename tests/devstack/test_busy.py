"""A command beside busy processes: they work, its exit status passes, and nothing is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.busy import busy_processes
from devstack.processes import descendants
from tests.support.deadlines import wait_until

TREE = Path(__file__).parents[2]
BUSY = [sys.executable, "-m", "devstack.busy", "--"]
CORES = len(os.sched_getaffinity(0))


def is_alive(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ticks_of(pid: int) -> int:
    """Return the time that a process has worked, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_each_works_until_the_block_ends() -> None:
    with busy_processes(2) as pids:
        assert len(set(pids)) == 2
        wait_until(
            lambda: min(map(ticks_of, pids)) >= 20, what="a fifth of a second's work of each"
        )
    assert not any(map(is_alive, pids))


def test_a_failure_in_the_block_ends_them_too() -> None:
    with pytest.raises(ZeroDivisionError), busy_processes(1) as pids:
        _ = 1 / 0
    assert not any(map(is_alive, pids))


COUNT_SIBLINGS = """
import os, sys
from devstack.processes import descendants
siblings = [pid for pid in descendants(os.getppid()) if pid != os.getpid()]
print(*siblings)
sys.exit(7)
"""


def test_the_command_has_one_beside_it_for_each_core_and_its_status_passes() -> None:
    command = [*BUSY, sys.executable, "-c", COUNT_SIBLINGS]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == CORES
    assert not any(map(is_alive, pids))


def test_a_command_that_a_signal_ended_has_failed() -> None:
    assert subprocess.run([*BUSY, "sh", "-c", "kill -9 $$"], cwd=TREE).returncode == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_with_their_parent(number: signal.Signals) -> None:
    with subprocess.Popen([*BUSY, "sleep", "600"], cwd=TREE) as parent:
        wait_until(lambda: len(descendants(parent.pid)) == CORES + 1, what="all its children")
        family = descendants(parent.pid)
        parent.send_signal(number)
    # The command is the caller's; it goes on, as below any shell that is killed.
    wait_until(lambda: sum(map(is_alive, family)) == 1, what="the end of the busy ones")
    for pid in filter(is_alive, family):
        os.kill(pid, signal.SIGKILL)
