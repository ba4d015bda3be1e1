"""The service as it is deployed: the Procfile's processes, as children of the test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from devstack.mariadb import MariaDB
from devstack.ports import HeldPort
from devstack.processes import Process, descendants, dying_with_parent
from devstack.procfile import procfile_commands, service_environment
from devstack.valkey import Valkey
from provisioning.access.tokens import LocalTokens
from provisioning.configuration import config
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import generate_key
from provisioning.configuration.settings import KEYS
from provisioning.errors import StateUnavailable
from provisioning.installation import build_installation
from provisioning.state.bootstrap import prepare_state
from provisioning.state.models import Base
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.hunt import HUNT

TREE = Path(__file__).parents[2]


class Service:
    """Some fronts, workers and beats over one state, broker and, if given, MariaDB.

    Every process writes to a log in ``directory``; `logs` returns them all, for error messages.
    All secrets, and all files that were written, are given to the hunt at the end of the run.
    """

    _services = 0

    def __init__(
        self,
        directory: Path,
        *,
        mariadb: MariaDB | None = None,
        valkey: Valkey,
        state_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "STATE_URL": state_url or f"sqlite:///{directory}/state.db",
            "BROKER_URL": self._own_broker_database(valkey),
            "ENCRYPTION_KEYS": generate_key().reveal(),
            **({"MYSQL_URL": mariadb.url} if mariadb else {}),
            # Also those without a server, which are known.
            "OFFERED_BACKENDS": ",".join(BACKENDS),
            "LOG_FORMAT": "json",
            "SWEEP_SECONDS": "1",
            "CLAIM_SECONDS": "4",
            **(environment or {}),
        }
        self.fronts: list[Process] = []
        self.workers: list[Process] = []
        #: The workers of sandboxes.
        self.dockers: list[Process] = []
        self.beats: list[Process] = []
        self._ports: dict[Process, HeldPort] = {}
        self._counter = 0
        # In-process access to the same state, for tokens, assertions and the oracle.
        self.installation = build_installation(config.load(self.environment))
        prepare_state(self.installation.database)
        for key in KEYS:
            if key.secret:
                HUNT.add_setting(key.name, self.environment.get(key.name, ""))

    @classmethod
    def _own_broker_database(cls, valkey: Valkey) -> str:
        """Return the URL of a database of Valkey's that no other service uses.

        Some services live as long as the whole run, so a number is never used again.
        """
        Service._services += 1
        return f"{valkey.url.rpartition('/')[0]}/{Service._services}"

    # Processes ----------------------------------------------------------------------

    def start(self, *, fronts: int = 1, workers: int = 1, beats: int = 1, dockers: int = 0) -> None:
        """Start that many processes of each kind and wait until every front is ready."""
        for _ in range(workers):
            self.start_worker()
        for _ in range(dockers):
            self.start_docker()
        for _ in range(beats):
            self.start_beat()
        for _ in range(fronts):
            self.start_front()

    def start_front(self) -> Process:
        """Start a front on a port of its own and wait until it is ready."""
        port = HeldPort()
        front = self._start("web", {"PORT": str(port.number), "WEB_PROCESSES": "1"})
        self._ports[front] = port
        self.fronts.append(front)
        wait_until(lambda: self._is_ready(port.number), what=front.log_tail())
        return front

    def start_worker(self) -> Process:
        worker = self._start("worker", {"WORKER_THREADS": "4"})
        self.workers.append(worker)
        return worker

    def start_docker(self) -> Process:
        """Start a worker of sandboxes."""
        docker = self._start("docker", {"DOCKER_WORKER_THREADS": "12"})
        self.dockers.append(docker)
        return docker

    def start_beat(self) -> Process:
        self._counter += 1
        schedule = self.directory / f"beat-schedule-{self._counter}"
        beat = self._start("beat", {"BEAT_SCHEDULE": str(schedule)})
        self.beats.append(beat)
        return beat

    def restart(self, process: Process) -> None:
        """Start a process that has ended again, a front on its old port."""
        process.kill()
        kind = process.name.split("-")[0]
        extra = {"WORKER_THREADS": "4", "DOCKER_WORKER_THREADS": "12", "WEB_PROCESSES": "1"}
        if process in self._ports:
            extra["PORT"] = str(self._ports[process].number)
        if kind == "beat":
            extra["BEAT_SCHEDULE"] = str(self.directory / f"beat-schedule-{process.name}")
        self._run(process, kind, extra)
        if process in self._ports:
            port = self._ports[process].number
            wait_until(lambda: self._is_ready(port), what="ready again")

    def stop(self) -> None:
        """End everything that runs, at once: nobody needs what an orderly end would save."""
        processes = [*self.fronts, *self.beats, *self.workers, *self.dockers]
        HUNT.add_text("arguments of processes", "\n".join(map(_arguments, processes)))
        for process in processes:
            process.kill()
        for port in self._ports.values():
            port.release()
        HUNT.add_files(*self.directory.glob("*.log"), *self.directory.glob("*.db*"))
        HUNT.add_files(*self.directory.glob("beat-schedule*"))
        if not self.environment["STATE_URL"].startswith("sqlite"):
            HUNT.add_text(f"state of {self.directory.name}", self._state())
        self.installation.close()

    def _state(self) -> str:
        """Return every value of the state database, as far as it still answers."""
        values: list[str] = []
        with suppress(StateUnavailable), self.installation.database.connect() as connection:
            for table in Base.metadata.sorted_tables:
                values += (str(tuple(row)) for row in connection.execute(table.select()))
        return "\n".join(values)

    def _start(self, kind: str, extra: dict[str, str]) -> Process:
        self._counter += 1
        name = f"{kind}-{self._counter}"
        process = Process(name, self.directory / f"{name}.log")
        self._run(process, kind, extra)
        return process

    def _run(self, process: Process, kind: str, extra: dict[str, str]) -> None:
        # The shell that expands the variables becomes the process, so signals reach it.
        command = ["sh", "-c", f"exec {procfile_commands()[kind]}"]
        environment = service_environment({"PYTHONPATH": str(TREE), **self.environment, **extra})
        process.start(dying_with_parent(command), environment=environment, directory=TREE)

    @staticmethod
    def _is_ready(port: int) -> bool:
        try:
            return Client(port, timeout=2).get("/health/ready").status == 200
        except OSError:
            return False

    # Callers ------------------------------------------------------------------------

    def token(
        self,
        project: str = "70",
        person: str | None = None,
        description: str = "test",
        features: tuple[str, ...] = (),
        limits: dict[str, int] | None = None,
    ) -> str:
        """Return a new local token."""
        _, token = LocalTokens(self.installation.database).create(
            project_id=project,
            project_name=f"Project {project}",
            person_id=person,
            description=description,
            features=list(features),
            limits=limits,
        )
        # The parts before it are ids.
        HUNT.add_secret("token", token.reveal().rpartition("-")[2])
        return token.reveal()

    def client(self, token: str | None = None, *, front: int = 0) -> Client:
        """Return a client of a front, by default with a new token of a new caller."""
        port = self._ports[self.fronts[front]].number
        return Client(port, self.token() if token is None else token)

    def anonymous(self, *, front: int = 0) -> Client:
        """Return a client without a token."""
        return Client(self._ports[self.fronts[front]].number)

    def logs(self) -> str:
        """Return what all processes wrote."""
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log"))
        )


def _arguments(process: Process) -> str:
    """Return the arguments of a process and all below it, as every user of the machine sees."""
    pids = [process.pid, *descendants(process.pid)] if process.running else []
    shown = []
    for pid in pids:
        with suppress(OSError):
            shown.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    return "\n".join(shown)


@contextmanager
def running(service: Service, **counts: int) -> Iterator[Service]:
    """Start a service for a block and stop it after."""
    try:
        service.start(**counts)
        yield service
    finally:
        service.stop()
