"""Connections to one Snowflake account: the pool and the connector's errors."""

import logging
import os
from typing import Any

import snowflake.connector
from snowflake.connector.errors import Error

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Spec,
    step_of,
)
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.servers.server import Driver, EngineServer, EngineStatements
from provisioning.configuration.servers import SnowflakeServer
from provisioning.state.claims import Lease

EXISTS = 2002
#: "Does not exist or not authorized": the server does not say which.
MISSING = {2003, 2043}
INVALID_VALUE = 1008
NO_RIGHT = 3001
#: No warehouse is selected or allowed, or it cannot be resumed, as when its budget is spent.
NO_WAREHOUSE = {606, 90073}
_SYNTAX = {1003, 1001}
#: Errors of a working server after which the same statement may succeed later.
_LATER = {
    603,  # internal error of one statement
    604,  # cancelled
    607,  # warehouse queue timeout
    625,  # locks: statement aborted
    630,  # statement timeout
    390111,  # our session is gone; the next connection has another
    390112,
    390114,
}
#: Classes of SQLSTATE of a connection that failed: 08 of logging in, HY of the connector.
_CONNECTION = ("08", "HY")
#: Numbers of the connector itself; the server's own start above.
_CONNECTOR_OWN = 100
#: Tries of one request: the second for a kept connection that the server has closed. Further
#: ones would only hold up callers of an account that is gone.
ATTEMPTS = 2
#: Seconds that logging out of a session may take.
LOGOUT_SECONDS = 2

Row = dict[str, Any]

# It logs statements at its lower levels, and each connection's proxy as a warning.
logging.getLogger("snowflake.connector").setLevel(logging.ERROR)
# For its telemetry it would ask the cloud's metadata addresses which machine it runs on.
os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")


class Statements(EngineStatements[Row]):
    """Statements whose rows have the columns' names in lower case."""

    def __call__(self, sql: str, *values: Any) -> list[Row]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                self._answered()
                if not cursor.description:
                    return []
                names = [column[0].lower() for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except Error as problem:
            raise translate(problem, f"{self._server}: {step_of(sql)}") from None

    def change(self, lease: Lease, sql: str) -> None:
        """Run a statement that changes something, if the claim still holds.

        The server has no locks that outlast a statement, so the lease is looked at each time.
        """
        lease.check()
        self(sql)

    def change_ignoring(self, lease: Lease, numbers: set[int], sql: str) -> bool:
        """Change something; return False when it failed with one of the error ``numbers``."""
        lease.check()
        return self.ignoring(numbers, sql)


def translate(problem: Error, where: str) -> EngineError:
    """Return the engine error for an error of the connector, without the statement's text.

    ``where`` is the server, and the step there.
    """
    number, state = int(problem.errno or -1), problem.sqlstate or ""
    words = " ".join(str(problem.raw_msg).split())
    # The words quote the statement where it could not be read, and values that were wrong.
    if number in _SYNTAX:
        words = "syntax error"
    elif number == INVALID_VALUE:
        words = "invalid value"
    text = f"server {where}: error {number}: {words[:300]}"
    if number in _LATER:
        return EngineBusy(text, number)
    if number < _CONNECTOR_OWN or 250_000 <= number < 300_000 or state[:2] in _CONNECTION:
        return EngineUnavailable(text, number)
    return EngineRefused(text, number)


class Server(EngineServer[SnowflakeServer, Statements]):
    """One account: its admin connections."""

    driver = Driver(Error, translate, Statements)

    def connect_as(self, user: str, **secret: Any) -> Any:
        """Open a connection of the given login, without a role or place of its own choice."""
        return snowflake.connector.connect(
            account=self.config.account or self.config.host.partition(".")[0],
            host=self.config.host,
            port=self.config.port,
            protocol=self.config.protocol,
            user=user,
            # The whole login; the whole statement; other requests; the network, each attempt.
            login_timeout=self._timeout,
            query_timeout=self._timeout,
            request_timeout=self._timeout,
            connect_timeout=self._timeout,
            retry_timeout=self._timeout,
            retry_max_attempts=ATTEMPTS,
            logout_total_timeout_seconds=LOGOUT_SECONDS,
            # It would ask the server for running statements at each close.
            enable_server_session_keep_alive_auto_detection=False,
            **secret,
        )

    def _connect_admin(self) -> Any:
        options: dict[str, Any] = {"warehouse": self.config.warehouse}
        if self.config.role:
            options["role"] = self.config.role
        if self.config.private_key_file:
            options |= {
                "private_key_file": self.config.private_key_file,
                "authenticator": "SNOWFLAKE_JWT",
            }
        else:
            options["password"] = self.config.password.reveal()
        return self.connect_as(self.config.user, **options)


#: The row keeps ``DATABASE.SCHEMA`` in 128 characters.
PART_LIMIT = 60


def schema_name(spec: Spec) -> str:
    return ".".join(quote_sql_name(part) for part in spec.object_name.split("."))


def database_of(spec: Spec) -> str:
    return spec.object_name.split(".")[0]


def quote_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
