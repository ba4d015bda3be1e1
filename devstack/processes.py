"""Child processes that never outlive us, and waiting for a condition with a deadline."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

Answer = TypeVar("Answer")

# The kernel sends the parent-death signal when the *thread* that forked the child ends, not the
# process. All children are therefore forked by this one thread, which lives as long as we do;
# otherwise a server started from a short-lived test thread would die with that thread.
_forking_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack-fork")


class StartFailed(RuntimeError):
    """A process did not start, or did not become what it should be in time."""


def wait_until(
    condition: Callable[[], Answer], *, timeout: float, what: str, interval: float = 0.02
) -> Answer:
    """Return the first true answer of `condition`; TimeoutError names `what` was awaited."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not so within {timeout:g} s")
        time.sleep(interval)


def dying_with_parent(command: Sequence[str], death_signal: str = "KILL") -> list[str]:
    """Wrap `command` so that the kernel signals it when we die, however we die.

    `setpriv` sets the signal and then becomes the command, so the process id stays the same. It
    has to come last, after any change of user, because the kernel forgets the signal when
    credentials change.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    return [setpriv, "--pdeathsig", death_signal, "--", *command]


class Process:
    """One child in a session of its own, so that Ctrl-C reaches us and we stop it in order."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; only a started process has one."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while running or never started."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Whether the child exists; a paused child counts as running."""
        return self._child is not None and self._child.poll() is None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        output: IO[bytes] | int | None = None,
    ) -> None:
        """Start `command`; its output goes to the log file unless `output` says otherwise."""
        if self.running:
            raise StartFailed(f"{self.name} is running already")
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(self.log.open("ab")) if output is None else output

            def fork() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=target,
                    stderr=subprocess.STDOUT,
                    env=None if environment is None else dict(environment),
                    cwd=directory,
                    start_new_session=True,
                )

            self._child = _forking_thread.submit(fork).result()

    @property
    def output(self) -> IO[bytes] | None:
        """The reading end of the child's output when it was started with subprocess.PIPE."""
        return self._started().stdout

    def stop(self, *, ask: signal.Signals = signal.SIGTERM, timeout: float = 20) -> None:
        """Ask the process to end, wait, then end it and everything it started by force."""
        if self._child is None:
            return
        if self.running:
            self.resume()
            self._signal_one(self.pid, ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End the process and all its descendants with SIGKILL, and wait until it is gone."""
        if self._child is None:
            return
        family = self._family()
        for pid in family:
            self._signal_one(pid, signal.SIGKILL)
        # Descendants of a process that died before us have another parent by now, but they are
        # still in the process group that the dead process led.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(timeout=20)

    def pause(self) -> None:
        """Freeze the process and all its descendants, as a hung machine would."""
        for pid in self._family():
            self._signal_one(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process and its descendants go on; harmless when nothing is paused."""
        for pid in self._family():
            self._signal_one(pid, signal.SIGCONT)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, for error messages."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise StartFailed(f"{self.name} was not started")
        return self._child

    def _family(self) -> list[int]:
        """The process and its descendants, parents first so that none can be started anew."""
        if not self.running:
            return []
        return [self.pid, *descendants(self.pid)]

    @staticmethod
    def _signal_one(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first, in whatever session they are."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def processes_working_in(directory: Path, executable: str) -> list[int]:
    """Processes running `executable` whose working directory is `directory`.

    Servers make their data directory their working directory, so this finds the one that serves a
    data directory without trusting a pid file, whose number may be somebody else's by now.
    """
    return [
        pid
        for pid in _all_pids()
        if _link(pid, "cwd") == str(directory.resolve())
        and os.path.basename(_link(pid, "exe")) == executable
    ]


def processes_mentioning(text: str, executables: Container[str]) -> list[int]:
    """Processes running one of the executables with `text` somewhere in their command line."""
    return [
        pid
        for pid in _all_pids()
        if os.path.basename(_link(pid, "exe")) in executables and text in _command_line(pid)
    ]


def end_stray(pid: int, *, gently: bool = True, timeout: float = 20) -> None:
    """End a process that is not our child, gently if it obeys, and wait until it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL) if gently else (signal.SIGKILL,):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                # A stopped process takes the signal only once it goes on.
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: _gone(pid), timeout=timeout, what=f"end of process {pid}")
                return
    finally:
        os.close(handle)
    raise StartFailed(f"process {pid} of an earlier run does not end")


def _gone(pid: int) -> bool:
    """Whether the process is over; one whose parent has not collected it yet counts as over."""
    try:
        return _stat_fields(pid)[0] == "Z"
    except OSError:
        return True


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _parents() -> Iterator[tuple[int, int]]:
    for pid in _all_pids():
        with contextlib.suppress(OSError):
            yield pid, int(_stat_fields(pid)[1])


def _stat_fields(pid: int) -> list[str]:
    """State, parent and the rest; the name before them may itself contain spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""
