"""A private Docker engine: containers, images and networks apart from any other engine's."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import IO, Any, Self

from devstack.docker_network import (
    EngineNetwork,
    HostNetwork,
    OwnNamespace,
    remove_namespace,
)
from devstack.executables import find_program, require_program
from devstack.processes import (
    Process,
    StartFailed,
    descendants,
    dying_with_parent,
    end_stray,
    processes_mentioning,
    wait_until,
)
from devstack.server import NotOurServer

PROGRAMS = ("dockerd", "containerd", "runc", "iptables", "ip", "nsenter", "unshare")
#: The processes an engine is made of, besides its containers.
PARTS = frozenset({"dockerd", "containerd", "containerd-shim-runc-v2", "runc"})
CONTROL_GROUPS = Path("/sys/fs/cgroup")
#: What lasts no longer than the machine runs. A short path, because a socket's path may not exceed
#: 107 bytes, and the path of a clone may.
RUNTIME = Path("/run/provisioning-docker")
START_SECONDS = 60
#: Containers that do not end by themselves within this time are ended by force.
STOP_SECONDS = 5


class InUse(StartFailed):
    """Another process uses the engine's directory."""


class DockerEngine:
    """dockerd with everything it keeps below one directory; it needs root.

    By default it works in a network namespace of its own, so several run side by side and harm no
    other engine. With `on_host` its ports are the machine's, as an installed engine's are; then
    it must be the only engine there.

    `stop` ends the containers and keeps them, stopped, for the next start; `kill` ends the engine
    alone, as a crash does, and its containers run on until the next start or stop. What engines
    left behind whose parent was killed is cleared away at the next start of any engine.
    """

    name = "docker"

    def __init__(self, directory: Path, *, on_host: bool = False) -> None:
        self.directory = directory.resolve()
        self.process = Process(self.name, self.directory / "docker.log")
        self.identity = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        self.runtime = RUNTIME / self.identity
        self._on_host = on_host
        self.network: EngineNetwork = (
            HostNetwork(self.runtime / "host-network.json")
            if on_host
            else OwnNamespace(_namespace(self.identity), self.directory / "subnet")
        )
        self._lock: IO[str] | None = None

    @classmethod
    def missing(cls) -> bool:
        """Whether this machine lacks one of the programs."""
        return not all(find_program(name) for name in PROGRAMS)

    @property
    def data(self) -> Path:
        """The data root; the engine's working directory too."""
        return self.directory / "data"

    @property
    def socket(self) -> Path:
        """The socket of the engine's API; only root reaches it."""
        return self.runtime / "docker.sock"

    @property
    def url(self) -> str:
        """The address of the engine's API, as DOCKER_HOST takes it."""
        return f"unix://{self.socket}"

    @property
    def public_host(self) -> str:
        """Where published ports are reached from this machine."""
        return self.network.public_host

    @property
    def running(self) -> bool:
        """Whether the engine's process exists; a paused one counts."""
        return self.process.running

    def start(self) -> None:
        """Start the engine, or start it again after kill, and return once it answers as ours."""
        if self.running:
            return
        if os.geteuid() != 0:
            raise StartFailed("a private Docker engine needs root")
        self._prepare()
        self.process.start(self._command(), directory=self.data)
        try:
            wait_until(
                lambda: not self.running or self._answers(),
                timeout=START_SECONDS,
                what="the Docker engine answering",
            )
        except (TimeoutError, NotOurServer):
            self.process.kill()
            raise
        if not self.running:
            raise StartFailed(f"dockerd does not start; its log ends:\n{self.process.log_tail()}")

    def stop(self) -> None:
        """End the engine and its containers, and remove all but the data below the directory."""
        if self._lock is None:
            return
        self.process.stop(timeout=2 * STOP_SECONDS)
        _end_processes(self.runtime)
        self.network.remove()
        _remove_control_groups(self.identity)
        shutil.rmtree(self.runtime)
        self._lock.close()
        self._lock = None

    def kill(self) -> None:
        """End the engine with SIGKILL; its containers, namespace and address stay."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the engine: connections are accepted by the kernel but never answered."""
        self.process.pause()

    def resume(self) -> None:
        """Let a paused engine go on."""
        self.process.resume()

    def client(self, timeout: float = 60) -> Any:
        """A new client of Docker's own library."""
        # Imported where it is needed: it takes a fifth of a second.
        import docker

        return docker.DockerClient(base_url=self.url, version="auto", timeout=timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o711, parents=True, exist_ok=True)
        RUNTIME.mkdir(mode=0o700, exist_ok=True)
        if self._lock is None:
            self._lock = _take_lock(self.runtime)
            if self._lock is None:
                raise InUse(f"another process is using {self.directory}")
            _end_processes(self.runtime)
            _clear_away_left_engines()
        if self._on_host and _engines_on_host():
            raise StartFailed("another Docker engine runs in this machine's network")
        self._remove_stale_files()
        self.network.make()

    def _remove_stale_files(self) -> None:
        """A number in a pid file may be somebody else's by now, and be taken for ours."""
        for name in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.runtime / name).unlink(missing_ok=True)

    def _command(self) -> list[str]:
        (self.runtime / "daemon.json").write_text("{}")
        options = {
            # Otherwise the settings of an installed engine would be taken.
            "config-file": str(self.runtime / "daemon.json"),
            "data-root": str(self.data),
            "exec-root": str(self.runtime / "exec"),
            "pidfile": str(self.runtime / "docker.pid"),
            "host": self.url,
            "group": "0",
            # Sandboxes have a bridge each; the default one would be another engine's docker0.
            "bridge": "none",
            "cgroup-parent": f"/{_namespace(self.identity)}",
            "exec-opt": "native.cgroupdriver=cgroupfs",
            "log-opt": "max-size=1m",
            "log-level": "warn",
            "shutdown-timeout": str(STOP_SECONDS),
        }
        dockerd = [require_program("dockerd"), "--raw-logs", *self.network.engine_options]
        dockerd += [f"--{name}={value}" for name, value in options.items()]
        # Mounts of containers are then nobody else's, and go with the last process of the engine.
        apart = [require_program("unshare"), "--mount", "--propagation", "slave", "--"]
        return self.network.inside([*apart, *dying_with_parent(dockerd)])

    def _answers(self) -> bool:
        import requests
        from docker.errors import DockerException

        try:
            with contextlib.closing(self.client(timeout=2)) as client:
                served = client.info()["DockerRootDir"]
        except (DockerException, requests.RequestException):
            return False
        if Path(served).resolve() != self.data.resolve():
            raise NotOurServer(f"{self.url} serves {served}, not {self.data}")
        return True


def _namespace(identity: str) -> str:
    return f"provisioning-{identity}"


def _take_lock(runtime: Path) -> IO[str] | None:
    """Lock a runtime directory, making it if need be; None when another process has it.

    The kernel drops the lock with its owner. The directory may be removed between the opening of
    the file and the locking of it; a lock on a file that is not there any more is worth nothing.
    """
    while True:
        runtime.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = (runtime / "lock").open("a")
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if (runtime / "lock").stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()


def _clear_away_left_engines() -> None:
    """Remove what engines left whose parent was killed: containers, namespace, files in memory."""
    for runtime in RUNTIME.iterdir():
        lock = _take_lock(runtime)
        if lock is None:
            continue
        with lock:
            _end_processes(runtime)
            if (runtime / "host-network.json").exists():
                HostNetwork(runtime / "host-network.json").remove()
            remove_namespace(_namespace(runtime.name))
            _remove_control_groups(runtime.name)
            shutil.rmtree(runtime)


def _engines_on_host() -> list[int]:
    """Engines in our own network; two there would remove each other's bridges."""
    ours = _network_of("self")
    return [pid for pid in processes_mentioning("", {"dockerd"}) if _network_of(pid) == ours]


def _network_of(process: int | str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/net")
    except OSError:
        return ""


def _end_processes(runtime: Path) -> None:
    """End all that is left of an engine by force: the engine, its parts, its containers.

    The command lines of its parts name the runtime directory, and whatever a container does, it
    stays a descendant of one of them.
    """
    parts = processes_mentioning(str(runtime), PARTS)
    for pid in [*parts, *(below for part in parts for below in descendants(part))]:
        end_stray(pid, gently=False)


def _remove_control_groups(identity: str) -> None:
    """Remove the control groups of containers that were ended by force; all are empty."""
    name = _namespace(identity)
    # The second form is that of version 1, where each controller has a tree of its own.
    for top in [CONTROL_GROUPS / name, *CONTROL_GROUPS.glob(f"*/{name}")]:
        for group, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(group)
