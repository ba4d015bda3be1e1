"""The Snowflake simulator as a private server. It keeps nothing on disk, and is no Snowflake."""

import importlib.util
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from devstack.ports import accepts_connections
from devstack.processes import dying_with_parent
from devstack.procfile import TREE
from devstack.server import NotOurServer, Server

ADMIN = "OPS"
ACCOUNT = "SIMULATOR"
#: The warehouse that workspaces use.
WAREHOUSE = "SIMULATED"
_BAD_LOGIN = 390100


class SimulatedSnowflake(Server):
    """`python -m snowflake_simulator` with an administrator of our own."""

    name = "snowflake"
    executable = str(Path(sys.executable).resolve())

    @classmethod
    def missing(cls) -> bool:
        """Whether a package that the simulator or its client needs is not installed."""
        needed = ("snowflake", "duckdb", "sqlglot")
        return any(importlib.util.find_spec(name) is None for name in needed)

    @property
    def url(self) -> str:
        options = f"account={ACCOUNT}&warehouse={WAREHOUSE}&protocol=http"
        return f"snowflake://{ADMIN}:{self.password}@{self.host}:{self.port}?{options}"

    def ensure_warehouse(self) -> None:
        """Make the warehouse, which is gone after each start."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE WAREHOUSE IF NOT EXISTS {WAREHOUSE}")

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)

    def _start_process(self) -> None:
        # The data directory is where it works, so the tree has to be named.
        environment = {**os.environ, "PYTHONPATH": str(TREE)}
        self.process.start(self._command(), environment=environment, directory=self.data)

    def _command(self) -> list[str]:
        assert self.password, "writes the file"
        command = [sys.executable, "-m", "snowflake_simulator", "--port", str(self.port)]
        command += ["--account", ACCOUNT, "--admin-user", ADMIN]
        command += ["--admin-password-file", str(self.directory / "password")]
        return dying_with_parent(command)

    def _served_directory(self) -> str | None:
        from snowflake.connector.errors import Error

        if not accepts_connections(self.port):
            return None
        try:
            self._connect().close()
        except Error as error:
            if error.errno == _BAD_LOGIN:
                raise NotOurServer(f"{self.host}:{self.port} refuses our password") from error
            return None
        return str(self.data)

    def _connect(self) -> Any:
        # Imported where it is needed: it takes a third of a second.
        import snowflake.connector

        return snowflake.connector.connect(
            account=ACCOUNT,
            host=self.host,
            port=self.port,
            protocol="http",
            user=ADMIN,
            password=self.password,
            login_timeout=5,
            enable_server_session_keep_alive_auto_detection=False,
        )
