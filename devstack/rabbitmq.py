"""A private RabbitMQ server as the broker, for the tests of what its restarts do."""

from pathlib import Path

import amqp

from devstack.executables import find_program, require_program
from devstack.ports import HOST, HeldPort
from devstack.processes import dying_with_parent
from devstack.server import NotOurServer, Server, write_private

USER = "provisioning"
#: Debian's `rabbitmq-server` on PATH insists on the system's account; this is what it runs.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Erlang looks nodes up at a daemon; a private one ends with the server. The server's own start
#: would leave one behind that listens on all addresses.
START_SCRIPT = """
{ports} -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
exec {server}
"""


class RabbitMQ(Server):
    """RabbitMQ with one user. Durable queues outlive a kill; without `data` it starts empty."""

    name = "rabbitmq"
    executable = "beam.smp"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._inner_ports: list[HeldPort] = []

    @classmethod
    def missing(cls) -> bool:
        """Whether the system has no server."""
        return not PROGRAM.exists()

    @property
    def url(self) -> str:
        """`amqp://user:password@127.0.0.1:port//`, as BROKER_URL takes it."""
        return f"amqp://{USER}:{self.password}@{self.host}:{self.port}//"

    def stop(self) -> None:
        """Stop the server in good order and give up its directory and ports."""
        super().stop()
        for port in self._inner_ports:
            port.release()
        self._inner_ports = []

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)

    def _command(self) -> list[str]:
        write_private(self.directory / "rabbitmq.conf", self._settings())
        (self.directory / "plugins").write_text("[].\n")
        ports = " ".join(dying_with_parent([find_program("epmd") or "epmd"]))
        script = START_SCRIPT.format(ports=ports, server=PROGRAM)
        variables = [f"{name}={value}" for name, value in self._environment().items()]
        return dying_with_parent([require_program("env"), *variables, "sh", "-c", script])

    def _settings(self) -> str:
        return "\n".join(
            [
                f"listeners.tcp.1 = {self.host}:{self.port}",
                f"default_user = {USER}",
                f"default_pass = {self.password}",
                "log.console.level = warning",
                # A test's machine may be low on disk without being full.
                "disk_free_limit.absolute = 1MB",
                "",
            ]
        )

    def _environment(self) -> dict[str, str]:
        if not self._inner_ports:
            self._inner_ports = [HeldPort(), HeldPort()]
        names, nodes = (port.number for port in self._inner_ports)
        return {
            # Of the cookie that nodes know each other by.
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": "provisioning@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_DIST_PORT": str(nodes),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_FLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            # One scheduler that does not spin: the machine has others to serve.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput +S 1:1 +sbwt none",
            # Signals are handled by the server itself, not by a shell around it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _served_directory(self) -> str | None:
        """A server that takes our password is ours: only our directory has it."""
        try:
            with amqp.Connection(
                f"{self.host}:{self.port}", USER, self.password, connect_timeout=2
            ):
                return str(self.data)
        except amqp.AccessRefused as error:
            raise NotOurServer(f"{self.host}:{self.port} refuses our password") from error
        except (OSError, amqp.AMQPError):
            return None
