"""The real connector, pointed at a simulator, and keys for it."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import snowflake.connector
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from snowflake_simulator import SnowflakeSimulator
from tests.support.deadlines import DEADLINE, wait_until

ADMIN_PASSWORD = "admin's own"


def password_of(user: str) -> str:
    """Return the password that `add_workspace` gives a user."""
    return f"Secret-password-{user}"


class Address(Protocol):
    """Where a simulator listens."""

    host: str
    account: str

    @property
    def port(self) -> int: ...


class Connection:
    """A connection of the real connector, with the two questions that tests ask."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def rows(self, sql: str, parameters: Any = None) -> list[Any]:
        with self.inner.cursor() as cursor:
            result: list[Any] = cursor.execute(sql, parameters).fetchall()
            return result

    def value(self, sql: str, parameters: Any = None) -> Any:
        """Return the only cell of a result."""
        [[value]] = self.rows(sql, parameters)
        return value

    def records(self, sql: str) -> list[dict[str, Any]]:
        """Return rows by their columns' names."""
        with self.inner.cursor() as cursor:
            cursor.execute(sql)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def error(self, sql: str) -> int:
        """Run a statement that has to fail and return its number."""
        return number_of(lambda: self.rows(sql))

    def close(self) -> None:
        self.inner.close()


def number_of(action: Callable[[], object]) -> int:
    """Return the number of the error that an action ends with."""
    try:
        action()
    except snowflake.connector.errors.Error as error:
        return int(error.errno)
    raise AssertionError("no error")


def connect(
    simulator: Address, user: str, password: str | None = None, **options: Any
) -> Connection:
    if password is not None:
        options["password"] = password
    return Connection(
        snowflake.connector.connect(
            account=simulator.account,
            host=simulator.host,
            port=simulator.port,
            protocol="http",
            user=user,
            enable_server_session_keep_alive_auto_detection=False,
            **options,
        )
    )


def login_error(simulator: Address, user: str, password: str | None = None, **options: Any) -> int:
    """Log in, which has to fail, and return the error's number."""
    return number_of(lambda: connect(simulator, user, password, **options))


def prepare(admin: Connection) -> None:
    """Make the warehouse WH, the database D, and S1, R1, U1 and S2, R2, U2 in it."""
    for statement in ("CREATE WAREHOUSE wh", "CREATE DATABASE d"):
        admin.rows(statement)
    for number in (1, 2):
        add_workspace(admin, str(number))


def add_workspace(admin: Connection, suffix: str) -> None:
    """Make a role, a user and a schema that the role may fill."""
    for statement in (
        f"CREATE ROLE r{suffix}",
        f"CREATE USER u{suffix} PASSWORD = '{password_of(f'U{suffix}')}' TYPE = LEGACY_SERVICE"
        f" DEFAULT_ROLE = r{suffix} DEFAULT_WAREHOUSE = wh DEFAULT_NAMESPACE = d.s{suffix}",
        f"GRANT ROLE r{suffix} TO USER u{suffix}",
        f"CREATE SCHEMA d.s{suffix}",
        f"GRANT USAGE ON WAREHOUSE wh TO ROLE r{suffix}",
        f"GRANT USAGE ON DATABASE d TO ROLE r{suffix}",
        f"GRANT ALL PRIVILEGES ON SCHEMA d.s{suffix} TO ROLE r{suffix}",
    ):
        admin.rows(statement)


@dataclass
class KeyPair:
    """A fresh RSA key pair in the two forms that the connector and ALTER USER take."""

    private: bytes = b""
    public: str = ""

    def __post_init__(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self.public = base64.b64encode(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()


@dataclass
class Background:
    """A statement that runs in a thread of its own."""

    connection: Connection
    sql: str
    errno: int | None = None
    seconds: float = 0
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> "Background":
        """Wait for its end, which is not that of an endless statement by itself."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self.connection.rows(self.sql)
        except snowflake.connector.errors.Error as error:
            self.errno = int(error.errno)
        self.seconds = time.monotonic() - started


def wait_until_running(simulator: SnowflakeSimulator, user: str) -> None:
    wait_until(lambda: simulator.running_statements(user), what=f"a statement of {user}")
