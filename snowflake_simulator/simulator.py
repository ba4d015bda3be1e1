"""The simulator as a test or the development stack holds it."""

import threading

from snowflake_simulator.account import Account
from snowflake_simulator.dispatcher import Dispatcher
from snowflake_simulator.errors import SnowflakeError
from snowflake_simulator.faults import Failure, Faults
from snowflake_simulator.protocol import HOST, Protocol, Server

SESSION_SECONDS = 3600
MASTER_SECONDS = 4 * 3600
#: Seconds that a request waits for its statement before it is told to ask again.
ANSWER_SECONDS = 45


class SnowflakeSimulator:
    """One account behind one port on loopback, gone when it stops.

    The first user is ``admin_user`` with the role ACCOUNTADMIN; all else is made by SQL.
    ``admin_public_key`` is base64 DER without PEM lines, as ALTER USER takes it.
    """

    def __init__(
        self,
        admin_user: str,
        admin_password: str | None,
        admin_public_key: str | None = None,
        *,
        port: int = 0,
        account: str = "simulator",
        session_seconds: float = SESSION_SECONDS,
        master_seconds: float = MASTER_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.host = HOST
        self.account = account
        self._account = Account(account, session_seconds, master_seconds)
        self._account.add_admin(admin_user, admin_password, admin_public_key)
        self._faults = Faults()
        self._dispatcher = Dispatcher(self._account, self._faults)
        self._protocol = Protocol(self._account, self._dispatcher, self._faults, answer_seconds)
        self._server = Server(port, self._protocol)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stopped = False

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on."""
        self._account.queries.start_watching()
        self._thread.start()

    def stop(self) -> None:
        """End all statements and sessions, and give up the port. Once is enough."""
        if self._stopped:
            return
        self._stopped = True
        self.release()
        self._account.queries.stop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._protocol.close()
        self._account.close()

    def __enter__(self) -> "SnowflakeSimulator":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # What a test looks at --------------------------------------------------------------

    @property
    def statements(self) -> list[str]:
        """Every statement so far, with the values of passwords starred."""
        return list(self._dispatcher.log)

    def open_sessions(self, user: str | None = None) -> list[int]:
        """Return the numbers of the open sessions, of one user or of all."""
        return [
            session.id
            for session in self._account.sessions.open_sessions()
            if user is None or session.user.name == user
        ]

    def running_statements(self, user: str | None = None) -> list[str]:
        """Return what runs at the moment, for one user or for all."""
        return [
            query.text
            for query in self._account.queries.running()
            if user is None or query.user == user
        ]

    # Faults ----------------------------------------------------------------------------

    def hang(self) -> None:
        """Take connections and requests, and answer nothing until `release`."""
        self._faults.hang()

    def release(self) -> None:
        """Answer again, first what has waited."""
        self._faults.release()

    def fail_next(
        self,
        statement_prefix: str,
        errno: int,
        *,
        sqlstate: str = "XX000",
        message: str = "injected failure",
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let the next statements that begin so fail with a number of the server.

        With ``after`` they do their work and fail then, as when an answer gets lost.
        """
        error = SnowflakeError(f"{errno:06d}", sqlstate, message)
        prefix = " ".join(statement_prefix.split()).upper()
        self._faults.add(Failure(prefix, error, times, after))

    def advance(self, seconds: float) -> None:
        """Set the server's clock forward, for tokens and accounts that expire."""
        self._account.clock.advance(seconds)

    def delay_account_usage(self, seconds: float) -> None:
        """Let ACCOUNT_USAGE lag behind, as it does by up to hours on the real server."""
        self._account.usage_latency = seconds

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)
