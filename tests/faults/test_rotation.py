"""Secrets of the service's own change under it: admin passwords and encryption keys."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from provisioning.access.tokens import Caller
from provisioning.backends.base import EngineRefused
from provisioning.backends.connections.pool import IDLE_SECONDS
from provisioning.backends.servers.admin_rotation import RotationRefused, rotate_admin
from provisioning.configuration import config
from provisioning.configuration.catalog import backend_rules
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.credentials.creation import get_or_create
from provisioning.credentials.reading import find_by_id
from provisioning.errors import ConfigurationError
from provisioning.installation import Installation, build_installation
from provisioning.state import failpoints
from provisioning.state.bootstrap import prepare_state
from provisioning.state.key_rotation import SealedColumn, Tally, rotate_keys
from provisioning.state.models import AdminSecret
from tests.faults.callers import Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.engines.postgres import PostgresEngine
from tests.faults.load import Load
from tests.faults.stack import FaultyService, Points
from tests.support.deadlines import wait_until
from tests.support.service import running

FIRST_PASSWORD = "Turning-admin-password-1"
OLD_KEY, NEW_KEY = generate_key().reveal(), generate_key().reveal()
#: Seconds of load before, between and after changes.
LOAD = 0.7
#: Where a rotation can die.
STEPS = ("rotate.proposed", "rotate.told", "rotate.verified", "rotate.confirmed")


def wait_ended(sessions: Callable[[], Any]) -> None:
    """Wait until no session is left: one that is being ended may still answer once."""
    wait_until(lambda: not sessions(), what="the end of the sessions")


class TurningMySQL(MySQLEngine):
    """The server that all tests share, with an administrator of its own."""

    def __init__(self, server: MariaDB, admin: str) -> None:
        super().__init__(server)
        self.admin = admin

    def prepare(self) -> None:
        account = f"{self.admin}@127.0.0.1"
        self.run(
            f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{FIRST_PASSWORD}'",
            f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION",
        )

    @property
    def url(self) -> str:
        return f"mysql://{self.admin}:{FIRST_PASSWORD}@{self.server.host}:{self.server.port}"

    def end_admin_sessions(self) -> None:
        self.run(f"KILL CONNECTION USER {self.admin}")
        processes = "SELECT id FROM information_schema.processlist WHERE user = "
        wait_ended(lambda: self.run(f"{processes}'{self.admin}'"))


class TurningPostgres(PostgresEngine):
    """The server that all tests share, with an administrator of its own."""

    def __init__(self, server: Postgres, admin: str) -> None:
        super().__init__(server)
        self.admin = admin

    def prepare(self) -> None:
        self.postgres.ensure_database(self.database)
        if not self.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{self.admin}'"):
            self.run(f"CREATE USER {self.admin} CREATEROLE")
        self.run(
            f"ALTER USER {self.admin} PASSWORD '{FIRST_PASSWORD}'",
            f"GRANT CREATE ON DATABASE {self.database} TO {self.admin}",
        )

    @property
    def url(self) -> str:
        address = f"{self.server.host}:{self.server.port}/{self.database}"
        return f"postgresql://{self.admin}:{FIRST_PASSWORD}@{address}"

    def end_admin_sessions(self) -> None:
        sessions = f"FROM pg_stat_activity WHERE usename = '{self.admin}'"
        self.run(f"SELECT pg_terminate_backend(pid) {sessions}")
        wait_ended(lambda: self.run(f"SELECT pid {sessions}"))


Turning = TurningMySQL | TurningPostgres


def prepared(mariadb: MariaDB, postgres: Postgres, admin: str) -> list[Turning]:
    """Return both engines, with the password of the configuration."""
    engines: list[Turning] = [TurningMySQL(mariadb, admin), TurningPostgres(postgres, admin)]
    for engine in engines:
        engine.prepare()
    return engines


@pytest.fixture
def turning(mariadb: MariaDB, postgres: Postgres) -> list[Turning]:
    return prepared(mariadb, postgres, "turning_admin")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, postgres: Postgres, valkey: Valkey
) -> Iterator[FaultyService]:
    """A service in the middle of a change of its keys."""
    service = FaultyService(
        tmp_path_factory.mktemp("turning"),
        prepared(mariadb, postgres, "turning_service"),
        valkey=valkey,
        environment={"ENCRYPTION_KEYS": f"{NEW_KEY},{OLD_KEY}"},
    )
    with running(service):
        yield service


def bad(load: Load) -> list[str]:
    return load.bad_outside()


def works(environment: dict[str, str], backend: str) -> bool:
    """Return whether a process that starts now gets in."""
    fresh = build_installation(config.load(environment))
    try:
        return all(health.alive for health in fresh.backends[backend].check())
    finally:
        fresh.close()


def takes_first_password(service: Installation, backend: str) -> bool:
    engine = service.backends[backend]
    try:
        engine.try_admin_password("default", Secret(FIRST_PASSWORD))  # type: ignore[attr-defined]
    except Exception:
        return False
    return True


def test_admin_passwords_change_under_load_without_a_failed_request(
    service: FaultyService, ledger: Ledger
) -> None:
    turning: Any = service.engines

    def loads() -> list[Load]:
        return [Load(service, ledger, engine) for engine in turning]

    first = loads()
    with first[0].flowing(3), first[1].flowing(2):
        for engine in turning:
            first[0].run_for(LOAD)
            rotate_admin(service.installation, engine.backend, "default")
        first[0].run_for(LOAD)
        # Every connection that is made from here on starts with a password that is refused.
        rotate_admin(service.installation, "mysql", "default")
    assert [bad(load) for load in first] == [[], []]
    for engine in turning:
        assert not takes_first_password(service.installation, engine.backend)
    # A pooled connection that has been idle is tried before it is used.
    idle_since = time.monotonic()
    wait_until(
        lambda: time.monotonic() > idle_since + IDLE_SECONDS,
        what="idle connections",
    )
    for engine in turning:
        engine.end_admin_sessions()
    # This one has only the password of the URL, which is stale.
    service.start_front()
    second = loads()
    with second[0].flowing(3), second[1].flowing(3):
        second[0].run_for(LOAD)
    assert [bad(load) for load in second] == [[], []]
    assert all(load.samples for load in (*first, *second))
    assert FIRST_PASSWORD not in service.logs()


def environment_of(directory: Path, engine: Turning) -> dict[str, str]:
    return {
        "STATE_URL": f"sqlite:///{directory}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": generate_key().reveal(),
        "CLAIM_SECONDS": "1",
        f"{engine.backend.upper()}_URL": engine.url,
    }


def rotate_in_a_process(environment: dict[str, str], backend: str, points: Path) -> int | None:
    """Run a rotation in a process of its own that failpoints may kill; return how it ended."""

    def run() -> None:
        failpoints._DIRECTORY = str(points)
        rotate_admin(build_installation(config.load(environment)), backend, "default")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(30)
    return process.exitcode


def test_a_rotation_that_dies_anywhere_leaves_a_recorded_password_that_works(
    tmp_path: Path, turning: list[Turning]
) -> None:
    points = Points(tmp_path / "points")
    for engine in turning:
        directory = tmp_path / engine.backend
        directory.mkdir()
        environment = environment_of(directory, engine)
        installation = build_installation(config.load(environment))
        prepare_state(installation.database)
        for step in STEPS:
            points.arm(step)
            assert rotate_in_a_process(environment, engine.backend, points.directory) == -9, step
            assert works(environment, engine.backend), step
            # The next one finishes it.
            assert rotate_in_a_process(environment, engine.backend, points.directory) == 0, step
            assert works(environment, engine.backend), step
            with installation.database.read() as session:
                row = session.scalars(select(AdminSecret)).one()
            assert row.secret and row.pending is None
        assert not takes_first_password(installation, engine.backend)
        installation.close()


def test_a_refused_password_is_withdrawn(tmp_path: Path, turning: list[Turning]) -> None:
    mysql, _ = turning
    installation = build_installation(config.load(environment_of(tmp_path, mysql)))
    prepare_state(installation.database)
    # Without these rights it may not even change its own.
    mysql.run("REVOKE CREATE USER, UPDATE ON *.* FROM turning_admin@127.0.0.1")
    with pytest.raises(EngineRefused):
        rotate_admin(installation, "mysql", "default")
    with installation.database.read() as session:
        row = session.scalars(select(AdminSecret)).one()
    assert (row.secret, row.pending, row.claim_until) == (None, None, None)
    assert takes_first_password(installation, "mysql")
    installation.close()


def test_what_would_lock_out_another_is_refused(
    tmp_path: Path, turning: list[Turning], mariadb: MariaDB
) -> None:
    mysql, postgresql = turning
    environment = environment_of(tmp_path, postgresql)
    same = postgresql.url.replace("postgresql:", "redshift-workspace:").replace(
        "127.0.0.1", "localhost"
    )
    cases = {
        ("postgresql", "default"): {"REDSHIFT_WORKSPACE_URL": same},
        ("mysql", "default"): {
            "MYSQL_URL": mysql.url,
            "STATE_URL": mysql.url.replace("mysql:", "mysql+pymysql:") + "/any",
        },
        ("docker", "default"): {"DOCKER_URL": "unix:///nowhere.sock"},
        ("mysql", "elsewhere"): {},
    }
    for (backend, name), more in cases.items():
        installation = build_installation(config.load({**environment, **more}))
        with pytest.raises(RotationRefused):
            rotate_admin(installation, backend, name)
        installation.close()


def test_keys_change_under_load_without_a_failed_request(
    service: FaultyService, ledger: Ledger
) -> None:
    token = service.token()

    def installation_with(keys: str) -> Installation:
        return build_installation(config.load({**service.environment, "ENCRYPTION_KEYS": keys}))

    # A process that still has the old key in front made this.
    before, after = installation_with(f"{OLD_KEY},{NEW_KEY}"), installation_with(NEW_KEY)
    caller = Caller(before.tokens.verify(Secret(token)), Secret(token), "")
    made = get_or_create(before, caller, backend_rules("mysql"), "sandbox")
    with pytest.raises(ConfigurationError):
        find_by_id(after, caller, "mysql", str(made.id))
    load, done = Load(service, ledger, service.engines[0]), 0

    def count(_: SealedColumn, tally: Tally) -> None:
        nonlocal done
        done += tally.old

    with load.flowing(4):
        for _ in range(3):
            load.run_for(LOAD)
            vault = service.installation.vault
            assert rotate_keys(service.installation.database, vault, count) == {}
    assert bad(load) == []
    # The credential's own, and its login's.
    assert done == 2
    assert find_by_id(after, caller, "mysql", str(made.id)).details == made.details
    before.close()
    after.close()
