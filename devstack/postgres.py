"""A private PostgreSQL server on the loopback address, with password logins."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pwd import getpwnam
from typing import Any

import psycopg2

from devstack.account import Account
from devstack.executables import find_postgres_program
from devstack.processes import StartFailed
from devstack.server import NotOurServer, Server, write_private

SYSTEM_ACCOUNT = "postgres"
ADMINISTRATOR = "postgres"
#: As `docs/operations.md` has it for servers of one's own.
_TAKE_ADVISORY_LOCKS = """
DO $$ DECLARE taken regprocedure; BEGIN
FOR taken IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
AND proname ~ '^pg_(try_)?advisory_(xact_)?lock'
LOOP EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', taken); END LOOP;
END $$
"""


class Postgres(Server):
    """PostgreSQL in one directory; it also runs for root, under another account."""

    name = "postgres"
    executable = "postgres"

    @classmethod
    def missing(cls) -> bool:
        """Whether this machine lacks the server's programs."""
        return not (cls._find_program("postgres") and cls._find_program("initdb"))

    @staticmethod
    def _find_program(name: str) -> str | None:
        """The full path of one of PostgreSQL's programs."""
        return find_postgres_program(name)

    def _program(self, name: str) -> str:
        found = self._find_program(name)
        if found is None:
            raise StartFailed(f"{name} is not installed")
        return found

    @property
    def url(self) -> str:
        """The administrative database, in the form that STATE_URL takes."""
        return f"postgresql+psycopg2://{self._login}/postgres"

    @property
    def _login(self) -> str:
        return f"{ADMINISTRATOR}:{self.password}@{self.host}:{self.port}"

    def database_url(self, database: str) -> str:
        """The URL of another database on this server."""
        return f"postgresql+psycopg2://{self._login}/{database}"

    def ensure_database(self, database: str) -> None:
        """Make the database if it is not there."""
        with self._connect(ADMINISTRATOR) as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if not cursor.fetchall():
                cursor.execute(f'CREATE DATABASE "{database}"')

    def close_to_tenants(self, database: str) -> None:
        """Take from everybody what lets one login of a database stop the whole server.

        Advisory locks need no table, so one session can fill the server's table of locks with
        them, from any database that it may open.
        """
        with self._connect(database) as cursor:
            cursor.execute(_TAKE_ADVISORY_LOCKS)
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for other in (ADMINISTRATOR, "template1"):
                cursor.execute(f"REVOKE CONNECT ON DATABASE {other} FROM PUBLIC")

    @contextmanager
    def _connect(self, database: str) -> Iterator[Any]:
        connection = psycopg2.connect(self.database_url(database).replace("+psycopg2", ""))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _initialise(self) -> None:
        """Fill a directory beside the final one and rename it, so a half-made one is not used."""
        fresh = self.directory / "data.new"
        subprocess.run(["rm", "-rf", str(fresh)], check=True)
        fresh.mkdir(mode=0o700)
        password_file = fresh.with_name("initdb-password")
        write_private(password_file, self.password)
        _account().give(fresh, password_file)
        done = subprocess.run(
            self._unprivileged(
                [
                    self._program("initdb"),
                    f"--pgdata={fresh}",
                    f"--username={ADMINISTRATOR}",
                    "--auth=scram-sha-256",
                    f"--pwfile={password_file}",
                    "--encoding=UTF8",
                    "--locale=C",
                ]
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=fresh,
        )
        password_file.unlink()
        if done.returncode != 0:
            raise StartFailed(f"initdb failed:\n{done.stdout[-2000:]}")
        fresh.rename(self.data)

    def _prepare(self) -> None:
        super()._prepare()
        _account().give(self.data)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            # TCP is enough, and a socket's path may not exceed 107 bytes.
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            # So that the tests meet what clients with distributed transactions leave behind.
            "max_prepared_transactions": "20",
            # Keeps shared memory in the data directory, where a killed server cannot leak it.
            "dynamic_shared_memory_type": "mmap",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return self._unprivileged([self._program("postgres"), "-D", str(self.data), *options])

    def _stop_signal(self) -> signal.Signals:
        """The "fast" stop: ends sessions instead of waiting for them."""
        return signal.SIGINT

    def _served_directory(self) -> str | None:
        try:
            connection = psycopg2.connect(
                host=self.host,
                port=self.port,
                user=ADMINISTRATOR,
                password=self.password,
                dbname="postgres",
                connect_timeout=2,
            )
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise NotOurServer(f"{self.host}:{self.port} refuses our password") from error
            return None
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW data_directory")
                row = cursor.fetchone()
                return None if row is None else str(row[0])
        finally:
            connection.close()

    def _unprivileged(self, command: list[str]) -> list[str]:
        """PostgreSQL refuses to run as root, so root hands it to Debian's own account for it."""
        return _account().wrap(command, self.directory)


def _account() -> Account:
    known = getpwnam(SYSTEM_ACCOUNT) if os.geteuid() == 0 else None
    return Account(known.pw_uid, known.pw_gid) if known else Account(os.geteuid(), os.getegid())
