"""The service as it is deployed: the Procfile's processes over one SQLite state."""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devstack.mariadb import MariaDB
from devstack.ports import HOST, HeldPort
from devstack.processes import Process, dying_with_parent, wait_until
from devstack.procfile import TREE, procfile_commands, service_environment
from devstack.valkey import Valkey
from provisioning.access.tokens import digest_token
from provisioning.configuration import config
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.installation import build_installation
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import next_numbers, read_clock
from provisioning.state.models import LocalToken

START_SECONDS = 60
FRONT_PROCESSES = 2


class Service:
    """Fronts, a worker and a beat with the defaults a new installation has.

    ``installation`` is the same service inside this process: for tokens, for looking at the
    state, and for what is measured without HTTP.
    """

    def __init__(
        self,
        directory: Path,
        mariadb: MariaDB,
        valkey: Valkey,
        number: int,
        settings: Mapping[str, str],
    ) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.state_file = directory / "state.db"
        self._settings = {
            "STATE_URL": f"sqlite:///{self.state_file}",
            # Each service has a database of the broker to itself.
            "BROKER_URL": f"{valkey.url.rpartition('/')[0]}/{number}",
            "ENCRYPTION_KEYS": generate_key().reveal(),
            "MYSQL_URL": mariadb.url,
            "BEAT_SCHEDULE": str(directory / "beat-schedule"),
            **settings,
        }
        self.processes: dict[str, Process] = {}
        self._ports: list[HeldPort] = []
        self.installation = build_installation(config.load(self._settings))
        prepare_state(self.installation.database)

    @property
    def port(self) -> int:
        """The port of the first front."""
        return self._ports[0].number

    def start(self) -> None:
        """Start a front of two processes, a worker and a beat, and wait for the front."""
        self._start("worker", "worker", {})
        self._start("beat", "beat", {})
        self.start_front("web", FRONT_PROCESSES)

    def start_sandbox_worker(self) -> None:
        """Start a worker of sandboxes."""
        self._start("docker", "docker", {})

    def start_front(self, name: str, processes: int) -> int:
        """Start a front, wait until it is ready, and return its port."""
        port = HeldPort()
        self._ports.append(port)
        settings = {"PORT": str(port.number), "WEB_PROCESSES": str(processes)}
        front = self._start(name, "web", settings)
        wait_until(
            lambda: _is_ready(port.number),
            timeout=START_SECONDS,
            what=f"{name} being ready, see {front.log}",
        )
        return port.number

    def stop(self) -> None:
        """Stop everything that runs."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Process.stop, self.processes.values()))
        for port in self._ports:
            port.release()
        self.installation.database.dispose()

    def make_tokens(self, count: int) -> list[str]:
        """Return that many new tokens of one project, recorded in one transaction."""
        with self.installation.database.write() as session:
            now = read_clock(session)
            numbers = next_numbers(session, "token", count)
            tokens = [f"70-{number}-benchmark" for number in numbers]
            session.add_all(
                LocalToken(
                    id=number,
                    digest=digest_token(Secret(token)),
                    description="benchmark",
                    project_id="70",
                    project_name="Benchmark",
                    features=[],
                    limits={},
                    created_at=now,
                )
                for number, token in zip(numbers, tokens, strict=True)
            )
        return tokens

    def _start(self, name: str, kind: str, settings: dict[str, str]) -> Process:
        process = Process(name, self.directory / f"{name}.log")
        self.processes[name] = process
        process.start(
            # These have children of their own, which they end when asked and not when killed.
            dying_with_parent(
                ["sh", "-c", f"exec {procfile_commands()[kind]}"], death_signal="TERM"
            ),
            environment=service_environment({**self._settings, **settings}),
            directory=TREE,
        )
        return process


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
