"""What the conformance suite needs to know of each backend."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pymysql
import pytest

from devstack.mariadb import MariaDB
from provisioning.backends.base import Owner, Spec
from provisioning.backends.mysql import MySQLBackend
from provisioning.claims import Lease
from provisioning.config import Limits, MySQLServer
from provisioning.models import Credentials
from provisioning.vault import Secret, generate_password

_numbers = count(1)


def lease(token: int = 1, *, seconds: float = 60.0) -> Lease:
    """Return a lease that runs out in ``seconds``, or did so when negative."""
    return Lease(Credentials, 0, token, time.monotonic() + seconds)


def mysql_server(mariadb: MariaDB, **changes: Any) -> MySQLServer:
    """Return the configuration of a private MariaDB."""
    values: dict[str, Any] = {
        "name": "one",
        "host": mariadb.host,
        "port": mariadb.port,
        "user": "root",
        "password": Secret(mariadb.root_password),
        "public_host": mariadb.host,
        "public_port": mariadb.port,
    }
    return MySQLServer(**{**values, **changes})


NO_LIMITS = {"sandbox": Limits(0, 0), "transformations": Limits(0, 0)}


@dataclass
class Case:
    """One backend on a real server, for one type of credential."""

    backend: MySQLBackend
    type: str
    mariadb: MariaDB
    prefix: str = field(default_factory=lambda: f"t{next(_numbers):03d}_")

    def spec(self, *, person: str | None = None, project: str = "70") -> Spec:
        number = next(_numbers)
        owner = Owner(project, str(number), person)
        return self.backend.plan(self.prefix, owner, self.type, number, "one")

    def made(self, **who: Any) -> tuple[Spec, Secret]:
        spec, password = self.spec(**who), generate_password()
        self.backend.create(spec, password, lease())
        return spec, password

    @contextmanager
    def session(
        self, spec: Spec, password: Secret, **options: Any
    ) -> Iterator["pymysql.Connection[Any]"]:
        connection = self.connect(spec, password, **options)
        try:
            yield connection
        finally:
            with suppress(pymysql.Error):
                connection.close()

    def connect(self, spec: Spec, password: Secret, **options: Any) -> "pymysql.Connection[Any]":
        values: dict[str, Any] = {
            "host": self.mariadb.host,
            "port": self.mariadb.port,
            "user": spec.user_name,
            "password": password.reveal(),
            "database": spec.object_name,
            "autocommit": True,
            "read_timeout": 20,
            "ssl_disabled": True,
        }
        return pymysql.connect(**{**values, **options})

    def admin(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the server's administrator."""
        with self.mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def remains(self, spec: Spec) -> list[str]:
        """Return what the server still has of a credential, its shared login aside."""
        found = [
            f"database {row[0]}"
            for row in self.admin(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s",
                spec.object_name,
            )
        ]
        found += [
            f"grant on {row[0]}"
            for row in self.admin("SELECT Db FROM mysql.db WHERE User = %s", spec.user_name)
            if row[0].replace("\\", "") == spec.object_name
        ]
        if not self.backend.shares_login(self.type):
            found += self.login_remains(spec)
        return found

    def login_remains(self, spec: Spec) -> list[str]:
        """Return what the server still has of the login."""
        users = self.admin("SELECT User FROM mysql.global_priv WHERE User = %s", spec.user_name)
        sessions = self.admin(
            "SELECT id FROM information_schema.processlist WHERE user = %s", spec.user_name
        )
        return [f"user {row[0]}" for row in users] + [f"session {row[0]}" for row in sessions]


@pytest.fixture(scope="session")
def mysql_backend(mariadb: MariaDB) -> MySQLBackend:
    return MySQLBackend((mysql_server(mariadb),), NO_LIMITS, timeout=10, connections=4)


@pytest.fixture(params=["transformations", "sandbox"])
def case(request: pytest.FixtureRequest, mysql_backend: MySQLBackend, mariadb: MariaDB) -> Case:
    """Each backend and type the conformance suite runs on."""
    return Case(mysql_backend, request.param, mariadb)
