"""What MySQL 8 is sent, which no test can run: its manual's rules, and its grammar.

https://dev.mysql.com/doc/refman/8.4/en/drop-user.html
"""

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlglot

from provisioning.backends.base import EngineRefused, Spec
from provisioning.backends.mysql.locks import Locks
from provisioning.backends.mysql.removal import end_access, end_shared_access, remove_databases
from provisioning.backends.mysql.server import Server, Statements
from tests.backends.case import lock_secret

SPECS = [Spec(number, "transformations", "one", f"u{number}", f"d{number}") for number in (1, 2)]
SERVER = cast(
    Server,
    SimpleNamespace(
        is_mariadb=False, grant_wildcards=True, processlist="performance_schema.processlist"
    ),
)


class StandIn(Statements):
    """Answers as the manual says, for accounts that are definers of something in their database."""

    def __init__(self, *specs: Spec) -> None:
        self.sent: list[str] = []
        self.accounts = {spec.user_name: "N" for spec in specs}
        self.databases = {spec.object_name: spec.user_name for spec in specs}

    def __call__(self, sql: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
        text = re.sub("%s", "?", sql)
        # It raises for what MySQL's grammar does not have.
        sqlglot.parse_one(text, dialect="mysql", error_level=sqlglot.ErrorLevel.RAISE)
        self.sent.append(text)
        if sql.startswith("DROP USER"):
            named = re.findall(r"`(u\d)`", sql)
            if set(named) & set(self.databases.values()):
                raise EngineRefused("is referenced as a definer account", 4006)
            for name in named:
                self.accounts.pop(name, None)
        elif match := re.fullmatch(r"ALTER USER `(u\d)`@`%` ACCOUNT LOCK", sql):
            self.accounts[match[1]] = "Y"
        elif match := re.fullmatch(r"DROP DATABASE IF EXISTS `(d\d)`", sql):
            self.databases.pop(match[1], None)
        elif "account_locked = 'Y'" in sql:
            return tuple((name,) for name, locked in self.accounts.items() if locked == "Y")
        elif "information_schema.tables" in sql:
            return ((0,),) * len(values)
        elif "GET_LOCK" in sql:
            return ((1,),)
        elif sql.startswith("SELECT COUNT(*) FROM mysql.db"):
            return ((0,),)
        return ()

    def order(self, *starts: str) -> list[int]:
        """Return the places at which statements that begin like that were sent last."""
        places = [
            [place for place, sql in enumerate(self.sent) if sql.startswith(start)][-1:]
            for start in starts
        ]
        return [place for found in places for place in found]


@pytest.mark.parametrize("specs", [SPECS[:1], SPECS])
def test_a_definer_is_locked_and_has_no_rights_until_its_database_is_gone(
    specs: list[Spec],
) -> None:
    server = StandIn(*specs)
    end_access(server, SERVER, specs)
    assert set(server.accounts.values()) == {"Y"}
    revoked = [sql for sql in server.sent if sql.startswith("REVOKE ALL PRIVILEGES, GRANT OPTION")]
    assert len(revoked) == len(specs)
    remove_databases(server, SERVER, specs)
    assert not server.accounts and not server.databases
    steps = server.order("REVOKE", "SELECT id", "DROP DATABASE", "DROP USER")
    assert len(steps) == 4 and steps == sorted(steps)


def test_a_shared_login_that_is_a_definer_stays_locked_until_its_last_database_is_gone() -> None:
    server = StandIn(SPECS[0])
    end_shared_access(server, SERVER, Locks(lock_secret), SPECS[0])
    assert server.accounts == {"u1": "Y"}
    # The lock is kept: somebody could take the login again before it goes.
    assert not [sql for sql in server.sent if "RELEASE_LOCK" in sql]
    remove_databases(server, SERVER, SPECS[:1])
    assert not server.accounts and not server.databases


def test_a_login_that_defines_nothing_goes_at_once() -> None:
    server = StandIn(SPECS[0])
    server.databases.clear()
    end_access(server, SERVER, SPECS[:1])
    assert not server.accounts
    assert not [sql for sql in server.sent if sql.startswith(("ALTER", "REVOKE"))]
