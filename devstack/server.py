"""What the three private servers have in common: a directory, a port, a password, a process."""

import fcntl
import os
import secrets
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

from devstack.ports import HOST, HeldPort, accepts_connections, hold_port
from devstack.processes import Process, StartFailed, end_stray, processes_working_in, wait_until

START_SECONDS = 60
PORT_ATTEMPTS = 5


class NotOurServer(StartFailed):
    """Something answers at the address, but it does not serve our data directory."""


class Server(ABC):
    """A private server that keeps everything it needs below one directory.

    `start` is repeatable: data, password and, while it is free, the port are those of the last
    time. A server of an earlier run whose parent was killed is found by its data directory and
    stopped first. One process uses a directory at a time; a lock that the kernel drops with its
    owner keeps a second one out, so a running server is never mistaken for a leftover.
    """

    name: str
    executable: str

    @classmethod
    @abstractmethod
    def missing(cls) -> bool:
        """Whether this machine lacks the server's programs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.host = HOST
        self.process = Process(self.name, self.directory / f"{self.name}.log")
        self._held: HeldPort | None = None
        self._lock: IO[str] | None = None

    @property
    def data(self) -> Path:
        """The data directory; the server's working directory too."""
        return self.directory / "data"

    @property
    def port(self) -> int:
        """The port, known from the first start until stop."""
        if self._held is None:
            raise StartFailed(f"{self.name} was not started")
        return self._held.number

    @property
    def running(self) -> bool:
        """Whether the server process exists; a paused one counts."""
        return self.process.running

    @property
    def password(self) -> str:
        """The administrator's password: made once, kept in a file only we can read."""
        file = self.directory / "password"
        if not file.exists():
            write_private(file, secrets.token_hex(24))
        return file.read_text()

    @property
    @abstractmethod
    def url(self) -> str:
        """The administrator's address, password included."""

    def start(self) -> None:
        """Start the server, or start it again after kill, and return once it answers as ours."""
        if self.running:
            return
        self._prepare()
        for _ in range(PORT_ATTEMPTS):
            self._start_process()
            if self._becomes_ready():
                (self.directory / "port").write_text(str(self.port))
                return
            if not accepts_connections(self.port):
                break
            self._take_another_port()
        raise StartFailed(f"{self.name} does not start; its log ends:\n{self.process.log_tail()}")

    def stop(self) -> None:
        """Stop the server in good order and give up its directory and port."""
        self.process.stop(ask=self._stop_signal())
        if self._held is not None:
            self._held.release()
            self._held = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """End the server with SIGKILL; the port stays ours for the next start."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the server: connections are accepted by the kernel but never answered."""
        self.process.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self.process.resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @abstractmethod
    def _initialise(self) -> None:
        """Make the data directory; called until it exists."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The whole command line, complete with what makes the child die with us."""

    @abstractmethod
    def _served_directory(self) -> str | None:
        """The data directory the server at our address reports; None while it does not answer."""

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        for pid in processes_working_in(self.data, Path(self.executable).name):
            end_stray(pid)
        if not self.data.exists():
            self._initialise()
        if self._held is None:
            self._held = hold_port(self.directory / "port")

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = (self.directory / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise StartFailed(f"another process is using {self.directory}") from None
        self._lock = lock

    def _start_process(self) -> None:
        self.process.start(self._command(), directory=self.data)

    def _becomes_ready(self) -> bool:
        """True once the server answers as ours, False when its process ended instead."""
        try:
            wait_until(
                lambda: not self.running or self._answers(),
                timeout=START_SECONDS,
                what=f"{self.name} answering",
            )
        except (TimeoutError, NotOurServer):
            self.process.kill()
            raise
        return self.running

    def _answers(self) -> bool:
        served = self._served_directory()
        if served is None:
            return False
        if Path(served).resolve() != self.data.resolve():
            raise NotOurServer(f"{self.host}:{self.port} serves {served}, not {self.data}")
        return True

    def _take_another_port(self) -> None:
        if self._held is not None:
            self._held.release()
        self._held = HeldPort()


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    fresh.replace(file)
