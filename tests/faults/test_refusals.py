"""Statements that the server refuses: missing rights, and names that somebody else has."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pymysql
import pytest

from devstack.mariadb import MariaDB
from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.oracle import Oracle, take_inventory
from tests.faults.stack import FaultyService
from tests.support.servers import connect_as
from tests.support.service import running

TYPES = ("sandbox", "transformations")
ADMIN, PASSWORD = "fault_admin", "fault-admin-password"


@dataclass
class Scene:
    """A service whose admin login on the server can be given rights and be robbed of them."""

    service: FaultyService
    mariadb: MariaDB
    ledger: Ledger
    oracle: Oracle
    #: A credential from before all changes.
    witness: tuple[Caller, str]

    def run(self, *statements: str) -> None:
        with contextlib.closing(self.mariadb.connect()) as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    def change_admin(self, *statements: str) -> None:
        """Change the admin's rights; sessions keep the global rights they began with."""
        self.run(*statements)
        with contextlib.suppress(pymysql.err.OperationalError):
            self.run(f"KILL CONNECTION USER {ADMIN}")
        # The answer comes over a new session.
        caller, credentials_id = self.witness
        assert caller.read(credentials_id).status == 200

    def inventory(self) -> frozenset[str]:
        found = take_inventory(self.mariadb, self.service.installation.prefix)
        return found.databases | found.users

    def refused(self, type_: str) -> Caller:
        """Send a create that fails with 503 and Retry-After; return its caller."""
        caller = Caller(self.service, self.ledger)
        client = self.service.impatient_client(caller.token, timeout=15)
        answer = client.post("/provisioning/mysql", {"type": type_})
        assert answer.status == 503, answer
        assert answer.body["reason"] == "backend_unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        return caller


@pytest.fixture(scope="module")
def refusing_service(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, valkey: Valkey
) -> Iterator[FaultyService]:
    with contextlib.closing(mariadb.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE USER {ADMIN}@127.0.0.1 IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@127.0.0.1 WITH GRANT OPTION")
    service = FaultyService(
        tmp_path_factory.mktemp("refusing"),
        mariadb=mariadb,
        valkey=valkey,
        environment={"MYSQL_URL": f"mysql://{ADMIN}:{PASSWORD}@{mariadb.host}:{mariadb.port}"},
    )
    with running(service):
        yield service


@pytest.fixture
def scene(refusing_service: FaultyService, mariadb: MariaDB, ledger: Ledger) -> Scene:
    oracle = Oracle(refusing_service.installation, {"default": mariadb}, ledger)
    witness = Caller(refusing_service, ledger)
    return Scene(refusing_service, mariadb, ledger, oracle, (witness, witness.create()["id"]))


#: Rights without which a create fails at another statement each.
MISSING = {
    "GRANT": "GRANT OPTION",
    # Either of the two is enough for it.
    "CREATE USER": "CREATE USER, INSERT",
    "CREATE DATABASE": "CREATE",
}


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("statement", MISSING)
def test_a_missing_right_leaves_nothing_behind(scene: Scene, type_: str, statement: str) -> None:
    before = scene.inventory()
    right = MISSING[statement]
    scene.change_admin(f"REVOKE {right} ON *.* FROM {ADMIN}@127.0.0.1")
    try:
        caller = scene.refused(type_)
        assert scene.inventory() == before, "objects are left while the right is missing"
    finally:
        scene.change_admin(f"GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@127.0.0.1 WITH GRANT OPTION")
    connect_as(caller.create(type_)["credentials"]).close()
    scene.oracle.assert_clean()


def _next_number(caller: Caller) -> int:
    """Return the number that the only front gives to its next credential."""
    body = caller.create("transformations")
    caller.drop(body["id"])
    return int(body["id"]) + 1


@pytest.mark.parametrize("type_", TYPES)
def test_a_foreign_database_of_the_next_name_survives(scene: Scene, type_: str) -> None:
    number = _next_number(Caller(scene.service, scene.ledger))
    kind = {"sandbox": "sand", "transformations": "tran"}[type_]
    name = f"{scene.service.installation.prefix}{kind}_70_{number}"
    scene.run(
        f"CREATE DATABASE `{name}`",
        f"CREATE TABLE `{name}`.theirs (a INT)",
        f"INSERT INTO `{name}`.theirs VALUES (42)",
    )
    before = scene.inventory()
    caller = scene.refused(type_)
    with contextlib.closing(scene.mariadb.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT a FROM `{name}`.theirs")
        assert cursor.fetchall() == ((42,),)
    assert scene.inventory() == before
    connect_as(caller.create(type_)["credentials"]).close()
    scene.run(f"DROP DATABASE `{name}`")
    scene.oracle.assert_clean()


def test_a_foreign_login_of_the_next_name_survives(scene: Scene) -> None:
    number = _next_number(Caller(scene.service, scene.ledger))
    name = f"{scene.service.installation.prefix}tran_70_{number}"
    scene.run(f"CREATE USER `{name}`@'%' IDENTIFIED BY 'theirs'")
    before = scene.inventory()
    caller = scene.refused("transformations")
    assert scene.inventory() == before
    theirs = {
        "hostname": scene.mariadb.host,
        "port": scene.mariadb.port,
        "user": name,
        "password": "theirs",
        "db": "information_schema",
    }
    connect_as(theirs).close()
    connect_as(caller.create("transformations")["credentials"]).close()
    scene.run(f"DROP USER `{name}`@'%'")
    scene.oracle.assert_clean()
