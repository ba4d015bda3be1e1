"""The whole service on one machine: private servers, settings, first token, processes."""

import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet
from honcho.printer import Printer

from devstack import packages
from devstack.mariadb import MariaDB
from devstack.ports import HOST, HeldPort
from devstack.postgres import Postgres
from devstack.processes import StartFailed, wait_until
from devstack.procfile import TREE, ServiceProcess, procfile_commands, service_environment
from devstack.sandboxes import Sandboxes
from devstack.server import Server, write_private
from devstack.snowflake import SimulatedSnowflake
from devstack.valkey import Valkey

READY_SECONDS = 60
STOP_SECONDS = 10
PAUSE_BEFORE_RESTART_SECONDS = 1
#: A process that ends this often within the window is broken, and starting it again hides it.
RESTARTS_ALLOWED = 4
RESTART_WINDOW_SECONDS = 60
#: The database that workspaces are made in.
WAREHOUSE = "warehouse"


@dataclass(frozen=True)
class Part:
    """A row of the table that `make run` prints."""

    name: str
    on: bool
    where: str
    note: str = ""


class Stack:
    """Everything `make run` starts, in order, and stops in the opposite order.

    Data stay below `directory`: the next start finds the same keys, token and credentials.
    """

    def __init__(self, directory: Path, *, port: int, host: str = HOST) -> None:
        self.directory = directory.absolute()
        self.host = host
        self.wanted_port = port
        self.token = ""
        self.mariadb = MariaDB(self.directory / "mariadb")
        self.postgres = Postgres(self.directory / "postgres")
        self.snowflake = SimulatedSnowflake(self.directory / "snowflake")
        self.valkey = Valkey(self.directory / "valkey")
        self.sandboxes = Sandboxes(self.directory)
        self.processes: list[ServiceProcess] = []
        self._printer = Printer(width=max(map(len, procfile_commands())))
        self._started_servers: list[Server] = []
        self._absences: dict[str, packages.Absence] = {}
        self._held: HeldPort | None = None
        self._endings: dict[str, list[float]] = {}

    @property
    def port(self) -> int:
        """The port the service listens on, known once start has begun."""
        return self._held.number if self._held else self.wanted_port

    @property
    def url(self) -> str:
        """Where the service answers on this machine."""
        return f"http://{HOST}:{self.port}"

    @property
    def state_file(self) -> Path:
        """The SQLite state database."""
        return self.directory / "state.db"

    @property
    def settings_file(self) -> Path:
        """The service's settings for a shell, as long as it runs: `make shell` reads them."""
        return self.directory / "env"

    def start(self) -> None:
        """Start all parts and return once the service says that it is ready."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        self._absences = packages.provide(
            packages.MARIADB, packages.POSTGRES, *self.sandboxes.wanted_software()
        )
        self._start_server(self.valkey)
        if "mariadb" not in self._absences:
            self._start_server(self.mariadb)
        if "postgres" not in self._absences:
            self._start_server(self.postgres)
            self.postgres.ensure_database(WAREHOUSE)
            self.postgres.close_to_tenants(WAREHOUSE)
        if not SimulatedSnowflake.missing():
            self._start_server(self.snowflake)
            self.snowflake.ensure_warehouse()
        self.sandboxes.start(self._absences)
        self._held = _hold_wanted_or_any(self.wanted_port)
        settings = self._settings()
        environment = service_environment(settings)
        write_private(self.settings_file, _as_shell(settings))
        self._prepare_state(environment)
        self._start_processes(environment)

    def watch(self) -> None:
        """Start ended processes again, for ever; StartFailed when one keeps ending."""
        while True:
            for process in self.processes:
                if not process.running:
                    self._start_again(process)
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop what was started, processes before the servers they use."""
        self.settings_file.unlink(missing_ok=True)
        for process in self.processes:
            process.stop(timeout=STOP_SECONDS)
        self.sandboxes.stop()
        for server in reversed(self._started_servers):
            server.stop()
        if self._held is not None:
            self._held.release()

    def parts(self) -> Iterator[Part]:
        """What is on, where, and why anything is off."""
        yield Part("service", True, self.url, self._port_note())
        yield Part("worker, beat", True, "processes of this command")
        yield Part("state", True, str(self.state_file), "SQLite")
        yield Part("broker", True, f"{self.valkey.host}:{self.valkey.port}", "Valkey, private")
        yield self._mysql_part()
        yield from self._workspace_parts()
        yield self._snowflake_part()
        yield self._docker_part()

    @property
    def docker_is_on(self) -> bool:
        """Whether sandboxes can be made."""
        return not self.sandboxes.problem

    @property
    def mysql_is_on(self) -> bool:
        """Whether credentials for MySQL can be made."""
        return self.mariadb in self._started_servers

    @property
    def _simulates_snowflake(self) -> bool:
        return self.snowflake in self._started_servers

    def _mysql_part(self) -> Part:
        absence = self._absences.get("mariadb")
        if absence is not None:
            return Part("mysql", False, "", f"{absence.reason}; to get it: {absence.command}")
        return Part("mysql", True, f"{self.mariadb.host}:{self.mariadb.port}", "MariaDB, private")

    def _workspace_parts(self) -> Iterator[Part]:
        """PostgreSQL serves under its own name and as Redshift."""
        absence = self._absences.get("postgres")
        for name, note in (
            ("redshift-workspace", "PostgreSQL instead of Redshift, private"),
            ("postgresql", "the same PostgreSQL"),
        ):
            if absence is None:
                yield Part(name, True, f"{self.postgres.host}:{self.postgres.port}", note)
            else:
                why = f"{absence.reason}; to get it: {absence.command}"
                yield Part(name, False, "", why)

    def _snowflake_part(self) -> Part:
        if not self._simulates_snowflake:
            return Part("snowflake", False, "", "install the package with its `dev` extra")
        where = f"{self.snowflake.host}:{self.snowflake.port}"
        return Part("snowflake", True, where, "simulator, not Snowflake; forgets all at each stop")

    def _docker_part(self) -> Part:
        if self.sandboxes.problem:
            return Part("docker", False, "", self.sandboxes.problem)
        whose = "private" if self.sandboxes.is_own else "this machine's"
        note = f"Docker, {whose}; a stand-in for RStudio"
        return Part("docker", True, self.sandboxes.where, note)

    def _workspace_settings(self) -> dict[str, str]:
        if self.postgres not in self._started_servers:
            return {"POSTGRESQL_URL": "", "REDSHIFT_WORKSPACE_URL": ""}
        login = self.postgres.database_url(WAREHOUSE).partition("://")[2]
        return {
            "POSTGRESQL_URL": f"postgresql://{login}",
            "REDSHIFT_WORKSPACE_URL": f"redshift-workspace://{login}",
        }

    def _port_note(self) -> str:
        if self.port == self.wanted_port:
            return ""
        return f"port {self.wanted_port} was taken, so this is another one"

    def _start_server(self, server: Server) -> None:
        # Listed before it is started, so an interrupted start is stopped too.
        self._started_servers.append(server)
        server.start()

    def _settings(self) -> dict[str, str]:
        return {
            "STATE_URL": f"sqlite:///{self.state_file}",
            "BROKER_URL": self.valkey.url,
            "ENCRYPTION_KEYS": self._kept("encryption-key", lambda: Fernet.generate_key().decode()),
            "MYSQL_URL": self.mariadb.url if self.mysql_is_on else "",
            **self._workspace_settings(),
            "SNOWFLAKE_URL": self.snowflake.url if self._simulates_snowflake else "",
            **self.sandboxes.settings(),
            "SERVERS_FILE": "",
            "BEAT_SCHEDULE": str(self.directory / "beat-schedule"),
            "HOST": self.host,
            "PORT": str(self.port),
            # Nobody is in front of it.
            "DRAIN_SECONDS": "0",
        }

    def _prepare_state(self, environment: dict[str, str]) -> None:
        # A token outlives neither the state that knows it nor, without it, any use.
        if not self.state_file.exists():
            (self.directory / "token").unlink(missing_ok=True)
        _provisioning(environment, "db", "upgrade")
        self.token = self._kept("token", lambda: _make_first_token(environment))

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """The content of a private file, made at the first start."""
        file = self.directory / name
        if not file.exists():
            write_private(file, make())
        return file.read_text().strip()

    def _start_processes(self, environment: dict[str, str]) -> None:
        for name, command in procfile_commands().items():
            log = self.directory / "logs" / f"{name}.log"
            process = ServiceProcess(name, command, log, environment=environment)
            self.processes.append(process)
            process.run(self._printer)
        try:
            wait_until(self._ready, timeout=READY_SECONDS, what="the service being ready")
        except TimeoutError as late:
            raise StartFailed(f"{late}; see the logs in {self.directory / 'logs'}") from late

    def _ready(self) -> bool:
        for process in self.processes:
            if not process.running:
                raise StartFailed(
                    f"{process.name} ended with status {process.returncode} while starting:\n"
                    f"{process.log_tail()}"
                )
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _start_again(self, process: ServiceProcess) -> None:
        now = time.monotonic()
        recent = [
            at for at in self._endings.get(process.name, []) if now - at < RESTART_WINDOW_SECONDS
        ]
        self._endings[process.name] = [*recent, now]
        if len(recent) >= RESTARTS_ALLOWED:
            raise StartFailed(
                f"{process.name} ended {len(recent) + 1} times within {RESTART_WINDOW_SECONDS} s; "
                f"see {process.log}"
            )
        print(
            f"{process.name} ended with status {process.returncode}; starting it again", flush=True
        )
        # What the dead process had started may still hold its port.
        process.kill()
        time.sleep(PAUSE_BEFORE_RESTART_SECONDS)
        process.run(self._printer)


def _hold_wanted_or_any(wanted: int) -> HeldPort:
    try:
        return HeldPort(wanted)
    except OSError:
        return HeldPort()


def _as_shell(settings: Mapping[str, str]) -> str:
    """Return settings as lines that a shell takes."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())


def _make_first_token(environment: dict[str, str]) -> str:
    """Make the token of the first session; the command prints it alone on its last line."""
    printed = _provisioning(
        environment, "tokens", "create", "--project", "70", "--person", "4",
        "--description", "first token",
    )  # fmt: skip
    return printed.splitlines()[-1]


def _provisioning(environment: dict[str, str], *arguments: str) -> str:
    """Run the operators' command, as an operator would."""
    done = subprocess.run(
        ["provisioning", *arguments],
        env=environment,
        cwd=TREE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise StartFailed(f"provisioning {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip()
