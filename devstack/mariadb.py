"""A private MariaDB server on the loopback address, durable like a real one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pymysql

from devstack.account import Account
from devstack.executables import find_program, require_program
from devstack.processes import StartFailed
from devstack.server import NotOurServer, Server, write_private

ACCESS_DENIED = 1045
#: Whom the server runs as when we are root: what tenants could make it write is not root's. The
#: number is nobody's, in a range that Debian leaves to local use.
ACCOUNT = Account(60306, 60306)


class MariaDB(Server):
    """MariaDB in one directory; the only administrator is root over TCP with a random password."""

    name = "mariadb"
    executable = "mariadbd"

    def __init__(self, directory: Path, *, extra_options: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self.extra_options = tuple(extra_options)

    @classmethod
    def missing(cls) -> bool:
        """Whether this machine lacks the server's programs."""
        return not (find_program("mariadbd") and find_program("mariadb-install-db"))

    @property
    def root_password(self) -> str:
        """The password of root."""
        return self.password

    @property
    def url(self) -> str:
        """`mysql://root:password@127.0.0.1:port`, as MYSQL_URL takes it."""
        return f"mysql://root:{self.password}@{self.host}:{self.port}"

    def connect(self, timeout: float = 60) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """A new connection as root, in autocommit."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user="root",
            password=urlsplit(self.url).password or "",
            connect_timeout=int(timeout),
            read_timeout=timeout,
            autocommit=True,
        )

    def _initialise(self) -> None:
        """Fill a directory beside the final one and rename it, so a half-made one is not used."""
        fresh = self.directory / "data.new"
        subprocess.run(["rm", "-rf", str(fresh)], check=True)
        fresh.mkdir(mode=0o700)
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        ACCOUNT.give(fresh, temporary)
        install = [
            require_program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={fresh}",
            f"--tmpdir={temporary}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        done = subprocess.run(
            ACCOUNT.wrap(install, self.directory),
            cwd=fresh,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise StartFailed(f"mariadb-install-db failed:\n{done.stdout[-2000:]}")
        fresh.rename(self.data)

    def _prepare(self) -> None:
        super()._prepare()
        ACCOUNT.give(self.data, self.directory / "tmp")

    def _command(self) -> list[str]:
        first_statements = self.directory / "first-statements.sql"
        write_private(first_statements, _statements_that_close_the_door(self.password))
        ACCOUNT.give(first_statements)
        return ACCOUNT.wrap(
            [
                require_program("mariadbd"),
                "--no-defaults",
                f"--datadir={self.data}",
                f"--tmpdir={self.directory / 'tmp'}",
                # Relative to the data directory, because a socket's path may not exceed 107 bytes
                # and the path of a clone may.
                "--socket=mariadb.sock",
                f"--port={self.port}",
                f"--bind-address={self.host}",
                f"--init-file={first_statements}",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=64M",
                "--max-connections=500",
                # Tenants could make tables outside of the data directory otherwise.
                "--skip-symbolic-links",
                *self.extra_options,
            ],
            self.directory,
        )

    def _served_directory(self) -> str | None:
        try:
            with self.connect(timeout=2) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT @@datadir")
                row = cursor.fetchone()
                return None if row is None else str(row[0])
        except pymysql.OperationalError as error:
            if error.args[0] == ACCESS_DENIED:
                raise NotOurServer(f"{self.host}:{self.port} refuses our password") from error
            return None


def _statements_that_close_the_door(password: str) -> str:
    """What the server runs at every start, before it accepts the first connection.

    The installer leaves root without a password; done this way there is no moment at which
    anybody could use that. One line for each statement, as the server reads the file.
    """
    return "\n".join(
        [
            f"CREATE USER IF NOT EXISTS root@127.0.0.1 IDENTIFIED BY '{password}';",
            f"ALTER USER root@127.0.0.1 IDENTIFIED BY '{password}';",
            "GRANT ALL PRIVILEGES ON *.* TO root@127.0.0.1 WITH GRANT OPTION;",
            f"ALTER USER root@localhost IDENTIFIED BY '{password}';",
            "DROP USER IF EXISTS root@'::1', ''@localhost, ''@'%';",
            "",
        ]
    )
