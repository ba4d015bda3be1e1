"""Tenants that hold on to what they have, with the rights that we give them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.faults.callers import Caller, Crowd, Ledger
from tests.faults.engines.base import Details, Engine
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, wait_dropped
from tests.faults.stack import FaultyService
from tests.support.deadlines import LONG_DEADLINE, bar, wait_until

pytestmark = pytest.mark.fault(row="F24")

#: Seconds in which access has to end, and the owner has to have a new credential.
OUT, AGAIN = bar(10), bar(5)
#: Clients of one login that come back as soon as they are thrown out.
CLIENTS = 5
#: What a session does and does not end, by engine.
HOLDS: dict[str, dict[str, tuple[str, ...]]] = {
    "mysql": {
        "transaction": ("BEGIN", "INSERT INTO t VALUES (1)"),
        "metadata lock": ("BEGIN", "SELECT * FROM t"),
        "table lock": ("LOCK TABLES t WRITE",),
        "backup lock": ("BACKUP LOCK t",),
        "named lock": ("SELECT GET_LOCK(CURRENT_USER(), 0)",),
        "prepared XA": ("XA START 'x'", "INSERT INTO t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'"),
        "tables": tuple(f"CREATE TABLE t{number} (a INT)" for number in range(200)),
    },
    "postgresql": {
        "login's row": ("BEGIN", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"),
        "login's settings": ("BEGIN", "ALTER ROLE CURRENT_USER SET work_mem = '1MB'"),
        "table lock": ("BEGIN", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"),
        "metadata lock": ("BEGIN", "SELECT * FROM t"),
        "grant": ("BEGIN", "GRANT SELECT ON t TO PUBLIC"),
        "advisory locks": ("SELECT count(pg_advisory_lock(n)) FROM generate_series(0, 999) AS n",),
        "tables": tuple(f"CREATE TABLE t{number} (a INT)" for number in range(200)),
    },
}


@pytest.mark.parametrize("ending", ["delete", "expiry"])
@pytest.mark.parametrize("backend", HOLDS)
def test_access_ends_and_the_owner_goes_on(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    engines: dict[str, Engine],
    ledger: Ledger,
    backend: str,
    ending: str,
) -> None:
    """All tenants at once, so that each one's removal meets what the others hold."""
    tenants = [
        Tenant(mixed_service, ledger, engines[backend], statements)
        for statements in HOLDS[backend].values()
    ]
    crowd = Crowd()
    with coming_back(tenants[0]):
        if ending == "expiry":
            expire(mixed_service, [tenant.number for tenant in tenants])
        for tenant in tenants:
            crowd.run(tenant.leave, ending)
        crowd.join()
    crowd.assert_no_problems()
    numbers = [tenant.number for tenant in tenants]
    wait_dropped(mixed_service, numbers, timeout=LONG_DEADLINE)
    for number in numbers:
        ledger.deleted(str(number))
    mixed_oracle.assert_clean()
    slowest = max(tenant.out for tenant in tenants)
    ledger.record.note(f"{backend} {ending}: out in {{:.1f}} s", slowest)


class Tenant:
    """A person with a credential, who holds something in an open session."""

    def __init__(
        self,
        service: FaultyService,
        ledger: Ledger,
        engine: Engine,
        statements: tuple[str, ...],
    ) -> None:
        self._engine, self._statements = engine, statements
        self._type = engine.types[0]
        self._caller = Caller(service, ledger, backend=engine.backend)
        body = self._caller.create(self._type)
        self.number = int(body["id"])
        self.credentials: Details = body["credentials"]
        #: Seconds until nobody could log in any more and no session was left.
        self.out = 0.0
        self._session = engine.connect(self.credentials)
        #: Kept, since a driver closes what nobody refers to.
        self._sessions: list[Any] = []
        self._run("CREATE TABLE t (a INT)", "COMMIT", *statements)

    def _run(self, *statements: str) -> None:
        with self._session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def hold_again(self) -> None:
        """Open a further session that holds the same, if the engine lets it."""
        with suppress(self._engine.error, OSError):
            session = self._engine.connect(self.credentials)
            self._sessions.append(session)
            with session.cursor() as cursor:
                for statement in self._statements:
                    cursor.execute(statement)

    def leave(self, ending: str) -> None:
        """Ask for the end, wait until it is there, and ask for a new credential."""
        start = time.monotonic()
        if ending == "delete":
            self._caller.drop_later(str(self.number))
        else:
            self._caller.ledger.leaving(str(self.number))
        wait_until(self._is_out, timeout=OUT, what=f"the end of access to {self.number}")
        self.out = time.monotonic() - start
        start = time.monotonic()
        fresh = self._caller.create(self._type)
        again = time.monotonic() - start
        assert int(fresh["id"]) != self.number
        assert again <= AGAIN, f"a new credential took {again:.1f} s"
        self._engine.try_login(fresh["credentials"])
        self._caller.drop(fresh["id"])

    def _is_out(self) -> bool:
        with suppress(self._engine.error, OSError):
            self._engine.try_login(self.credentials)
            return False
        with suppress(self._engine.error, OSError):
            self._run("SELECT 1")
            return False
        return True


@contextmanager
def coming_back(tenant: Tenant) -> Iterator[None]:
    """Let clients log in again and again for a block, and hold what the tenant holds."""
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.05):
            tenant.hold_again()

    threads = [threading.Thread(target=live, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(LONG_DEADLINE)
