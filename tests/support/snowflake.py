"""The Snowflake simulator as a process of its own, and logins to it with the real connector."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import snowflake.connector
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from devstack.processes import dying_with_parent
from tests.support.deadlines import DEADLINE
from tests.support.service import TREE

ADMIN = "ops"


@dataclass(frozen=True)
class Account:
    """A simulated account, with the warehouse WH, and its administrator's password."""

    port: int
    password: str

    @property
    def address(self) -> dict[str, Any]:
        """The options of a server in the servers file."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": ADMIN,
            "password": self.password,
            "account": "simulator",
            "warehouse": "wh",
            "protocol": "http",
        }

    def connect(self, user: str, **options: Any) -> Any:
        return snowflake.connector.connect(
            account="simulator",
            host="127.0.0.1",
            port=self.port,
            protocol="http",
            user=user,
            enable_server_session_keep_alive_auto_detection=False,
            **options,
        )

    def log_in(self, credentials: dict[str, Any]) -> Any:
        """Connect with the password of an answer, to where the answer says."""
        return self._log_in(credentials, password=credentials["password"])

    def log_in_by_key(self, credentials: dict[str, Any], private_key: str) -> Any:
        """Connect with a private key, PEM, to where an answer says."""
        key = load_pem_private_key(private_key.encode(), None)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return self._log_in(credentials, private_key=der)

    def _log_in(self, credentials: dict[str, Any], **secret: Any) -> Any:
        assert (credentials["hostname"], credentials["port"]) == ("127.0.0.1", self.port)
        return self.connect(
            credentials["user"],
            database=credentials["db"],
            schema=credentials["schema"],
            warehouse=credentials["warehouse"],
            **secret,
        )

    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        login = {"password": self.password, "warehouse": "WH"}
        with closing(self.connect(ADMIN, **login)) as connection:
            return run(connection, sql)

    def remains(self, credentials: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return what the catalogs still have of a workspace."""
        names = {credentials["user"], credentials["schema"]}
        looks = ("TERSE USERS", "ROLES", f"TERSE SCHEMAS IN DATABASE {credentials['db']}")
        rows = [row for look in looks for row in self.admin(f"SHOW {look}")]
        return [row for row in rows if names & set(map(str, row))]

    def is_running(self, credentials: dict[str, Any]) -> bool:
        """Return whether a statement of a workspace runs."""
        history = f"{credentials['db']}.INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER"
        return bool(
            self.admin(
                f"SELECT 1 FROM TABLE({history}(USER_NAME => '{credentials['user']}')) "
                "WHERE execution_status = 'RUNNING'"
            )
        )


@contextmanager
def simulated_account(directory: Path) -> Iterator[Account]:
    """Run a simulator for a block."""
    file = directory / "password"
    file.write_text("the simulators admin")
    process = subprocess.Popen(
        dying_with_parent(
            [
                *(sys.executable, "-m", "snowflake_simulator", "--admin-user", ADMIN),
                *("--admin-password-file", str(file)),
            ]
        ),
        stdout=subprocess.PIPE,
        text=True,
        cwd=TREE,
    )
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found is not None
        account = Account(int(found[1]), file.read_text())
        account.admin("CREATE WAREHOUSE wh")
        yield account
    finally:
        process.terminate()
        process.wait(DEADLINE)


def run(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        return list(cursor.execute(sql).fetchall())
