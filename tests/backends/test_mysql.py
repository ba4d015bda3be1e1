"""What only MySQL and MariaDB have: shared logins, limits, TLS."""

import datetime
import ipaddress
import threading
from pathlib import Path
from typing import Any

import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devstack.mariadb import MariaDB
from provisioning.backends.mysql import MySQLBackend
from provisioning.backends.mysql.backend import LOGINS_PER_STATEMENT
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.state.claims import ClaimLost
from tests.backends.case import NO_LIMITS, lease
from tests.backends.conftest import MySQLCase, make_mysql_backend, mysql_server


@pytest.fixture
def sandbox(mysql_backend: MySQLBackend, mariadb: MariaDB) -> MySQLCase:
    return MySQLCase(mysql_backend, "sandbox", mariadb)


@pytest.fixture
def plain(mysql_backend: MySQLBackend, mariadb: MariaDB) -> MySQLCase:
    """Credentials with a login of their own."""
    return MySQLCase(mysql_backend, "transformations", mariadb)


def test_an_underscore_in_the_name_opens_no_other_database(sandbox: MySQLCase) -> None:
    spec, password = sandbox.made()
    # An unescaped underscore in the grant would open this one.
    lookalike = spec.object_name.replace("_", "x")
    sandbox.admin(f"CREATE DATABASE `{lookalike}`")
    with sandbox.session(spec, password) as connection:
        with pytest.raises(pymysql.Error) as refused, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE `{lookalike}`.t (a INT)")
        assert refused.value.args[0] in (1044, 1142)
        assert databases(connection) == {spec.object_name}
    sandbox.admin(f"DROP DATABASE `{lookalike}`")


def test_drop_removes_routines_triggers_and_events(sandbox: MySQLCase) -> None:
    spec, password = sandbox.made()
    with sandbox.session(spec, password) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a INT)")
        cursor.execute("CREATE PROCEDURE p() SELECT 1")
        cursor.execute("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1")
        cursor.execute("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    sandbox.backend.drop(spec, lease())
    assert sandbox.remains(spec) == []


def test_many_go_together_with_their_sessions(plain: MySQLCase, sandbox: MySQLCase) -> None:
    made = [plain.made() for _ in range(LOGINS_PER_STATEMENT + 2)]
    shared, _ = sandbox.made(person="4")
    specs = [spec for spec, _ in made]
    with plain.session(*made[0]) as first, plain.session(*made[-1], autocommit=False) as last:
        with last.cursor() as cursor:
            cursor.execute("CREATE TABLE t (a INT)")
            cursor.execute("INSERT INTO t VALUES (1)")
        removals = [(spec, lease()) for spec in (*specs[:3], shared, *specs[3:])]
        assert list(plain.backend.drop_many(removals)) == [
            specs[:LOGINS_PER_STATEMENT],
            specs[LOGINS_PER_STATEMENT:],
        ]
        for connection in (first, last):
            with pytest.raises(pymysql.Error), connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    assert [plain.remains(spec) for spec in specs] == [[]] * len(specs)
    assert sandbox.backend.exists(shared)
    # Some of them again, with one that is there.
    fresh, _ = plain.made()
    removals = [(spec, lease()) for spec in (specs[0], fresh)]
    assert list(plain.backend.drop_many(removals)) == [[specs[0], fresh]]
    assert plain.remains(fresh) == []


def test_a_stale_holder_of_one_of_many_is_ended(plain: MySQLCase) -> None:
    specs = [plain.made()[0] for _ in range(3)]
    stale = plain.hold_lock(specs[1])
    assert list(plain.backend.drop_many([(spec, lease()) for spec in specs])) == [specs]
    with pytest.raises(pymysql.Error), stale.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert [plain.remains(spec) for spec in specs] == [[]] * 3


def test_a_lost_claim_keeps_all_that_would_go_with_it(plain: MySQLCase) -> None:
    made = [plain.made() for _ in range(3)]
    removals = [(spec, lease(seconds=60 if spec != made[2][0] else -1)) for spec, _ in made]
    with pytest.raises(ClaimLost):
        list(plain.backend.drop_many(removals))
    for one in made:
        with plain.session(*one):
            pass


def test_a_lost_grant_counts_as_vanished(sandbox: MySQLCase) -> None:
    spec, password = sandbox.made()
    sandbox.remove_login(spec)
    # The login of another sandbox of the person may come back without this grant.
    account = f"`{spec.user_name}`@'%%'"
    sandbox.admin(f"CREATE USER {account} IDENTIFIED BY %s", password.reveal())
    assert not sandbox.backend.exists(spec)
    sandbox.backend.create(spec, password, lease(token=2))
    assert sandbox.backend.exists(spec)


def databases(connection: Any) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        return {row[0] for row in cursor.fetchall()} - {"information_schema"}


def test_a_persons_sandboxes_share_a_login_over_projects(sandbox: MySQLCase) -> None:
    first, password = sandbox.made(person="4", project="70")
    second = sandbox.spec(person="4", project="71")
    sandbox.backend.create(second, password, lease())
    assert first.user_name == second.user_name
    with sandbox.session(first, password) as connection:
        assert databases(connection) == {first.object_name, second.object_name}
    sandbox.backend.drop(first, lease())
    with sandbox.session(second, password) as connection:
        assert databases(connection) == {second.object_name}
    sandbox.backend.drop(second, lease())
    assert sandbox.login_remains(second) == []


def test_sessions_of_a_shared_login_count_by_their_database(sandbox: MySQLCase) -> None:
    first, password = sandbox.made(person="4")
    second = sandbox.spec(person="4")
    sandbox.backend.create(second, password, lease())
    with sandbox.session(first, password) as here, sandbox.session(second, password) as there:
        assert sandbox.backend.in_use(first)
        assert sandbox.backend.in_use(second)
        assert sandbox.backend.kill(first, lease()) == 1
        with pytest.raises(pymysql.Error), here.cursor() as cursor:
            cursor.execute("SELECT 1")
        with there.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_with_one_database_all_sessions_of_the_login_count(sandbox: MySQLCase) -> None:
    spec, password = sandbox.made(person="4")
    with sandbox.session(spec, password, database=None):
        assert sandbox.backend.in_use(spec)
        assert sandbox.backend.kill(spec, lease()) == 1


def test_drop_ends_a_transaction_that_moved_to_another_sandbox(
    sandbox: MySQLCase,
) -> None:
    first, password = sandbox.made(person="4")
    second = sandbox.spec(person="4")
    sandbox.backend.create(second, password, lease())
    with sandbox.session(first, password, autocommit=False) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (a INT)")
            cursor.execute("INSERT INTO t VALUES (1)")
            cursor.execute(f"USE `{second.object_name}`")
        sandbox.backend.drop(first, lease())
    assert sandbox.remains(first) == []
    assert sandbox.backend.exists(second)


def test_a_login_survives_its_last_drop_racing_a_new_create(sandbox: MySQLCase) -> None:
    password = generate_password()
    current = sandbox.spec(person="4")
    sandbox.backend.create(current, password, lease())
    for _ in range(40):
        following = sandbox.spec(person="4")
        errors: list[Exception] = []

        def attempt(verb: Any, *arguments: Any, errors: list[Exception] = errors) -> None:
            try:
                verb(*arguments)
            except Exception as error:
                errors.append(error)

        threads = [
            threading.Thread(target=attempt, args=(sandbox.backend.drop, current, lease())),
            threading.Thread(
                target=attempt, args=(sandbox.backend.create, following, password, lease())
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with sandbox.session(following, password) as connection:
            assert databases(connection) == {following.object_name}
        current = following


def test_limits_of_a_type_are_enforced_by_the_server(mariadb: MariaDB) -> None:
    limits = {**NO_LIMITS, "transformations": Limits(connections=2, statement_seconds=1)}
    backend = make_mysql_backend(mysql_server(mariadb), limits)
    case = MySQLCase(backend, "transformations", mariadb)
    spec, password = case.made()
    with case.session(spec, password) as first, case.session(spec, password):
        with pytest.raises(pymysql.Error) as refused:
            case.connect(spec, password)
        assert refused.value.args[0] == 1226
        with pytest.raises(pymysql.Error) as cut, first.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.columns a, "
                "information_schema.columns b, information_schema.columns c"
            )
        assert cut.value.args[0] == 1969


def test_a_full_shared_login_still_takes_another_sandbox(mariadb: MariaDB) -> None:
    limits = {**NO_LIMITS, "sandbox": Limits(connections=1, statement_seconds=0)}
    backend = make_mysql_backend(mysql_server(mariadb), limits)
    case = MySQLCase(backend, "sandbox", mariadb)
    first, password = case.made(person="4")
    with case.session(first, password):
        second = case.spec(person="4")
        backend.create(second, password, lease())
    assert backend.exists(second)


# TLS ------------------------------------------------------------------------------------


def write_certificate(directory: Path, address: str) -> Path:
    """Write a self-signed certificate and its key; return the certificate's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture(scope="module")
def tls_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("tls-mariadb")
    certificate = write_certificate(directory, "127.0.0.1")
    server = MariaDB(
        directory / "server",
        extra_options=(f"--ssl-cert={certificate}", f"--ssl-key={directory / 'server.key'}"),
    )
    server.start()
    yield server, certificate
    server.stop()


def test_with_a_ca_the_admin_connection_is_verified_tls(tls_mariadb: Any) -> None:
    mariadb, certificate = tls_mariadb
    server = mysql_server(mariadb, tls_ca=str(certificate), require_tls=True)
    case = MySQLCase(make_mysql_backend(server), "transformations", mariadb)
    spec, password = case.made()
    (row,) = case.admin(
        "SELECT JSON_VALUE(Priv, '$.ssl_type') FROM mysql.global_priv WHERE User = %s",
        spec.user_name,
    )
    assert row == ("1",)
    with pytest.raises(pymysql.Error) as refused:
        case.connect(spec, password)
    assert refused.value.args[0] == 1045
    with case.session(spec, password, ssl_disabled=None, ssl_ca=str(certificate)):
        pass


def test_a_server_with_another_certificate_is_not_trusted(tls_mariadb: Any, tmp_path: Path) -> None:
    mariadb, _ = tls_mariadb
    other = write_certificate(tmp_path, "127.0.0.1")
    server = mysql_server(mariadb, tls_ca=str(other))
    (health,) = make_mysql_backend(server).check()
    assert not health.alive


def test_check_tells_what_is_unsafe(plain: MySQLCase, mariadb: MariaDB) -> None:
    unlimited = make_mysql_backend(mysql_server(mariadb))
    assert "one sandbox login may take all connections" in unlimited.check()[0].message
    backend = make_mysql_backend(mysql_server(mariadb), dict.fromkeys(NO_LIMITS, Limits(20, 0)))
    (health,) = backend.check()
    assert health.alive and ";" not in health.message
    plain.admin("CREATE USER ''@'localhost'")
    plain.admin("CREATE USER writer IDENTIFIED BY 'x'")
    plain.admin("GRANT FILE ON *.* TO writer")
    (health,) = backend.check()
    assert health.alive
    assert "anonymous account ''@'localhost'" in health.message
    assert "'writer'@'%' may write files anywhere" in health.message
    plain.admin("DROP USER ''@'localhost', writer")


def test_check_tells_symbolic_links(tmp_path: Path) -> None:
    with MariaDB(tmp_path / "server", extra_options=("--symbolic-links",)) as mariadb:
        assert isinstance(mariadb, MariaDB)
        (health,) = make_mysql_backend(mysql_server(mariadb)).check()
    assert health.alive and "symbolic links are on" in health.message


def test_a_database_takes_any_text(plain: MySQLCase) -> None:
    """Whatever the server's own default is; here it is latin1."""
    assert plain.admin("SELECT @@character_set_server") == [("latin1",)]
    spec, password = plain.made()
    text = "Žluťoučký kůň 🐎"
    with plain.session(spec, password, charset="utf8mb4") as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a VARCHAR(50))")
        cursor.execute("INSERT INTO t VALUES (%s)", (text,))
        cursor.execute("SELECT a FROM t")
        assert cursor.fetchall() == ((text,),)


def test_check_tells_a_wrong_admin_password(mariadb: MariaDB) -> None:
    server = mysql_server(mariadb, password=Secret("not-the-one"))
    (health,) = make_mysql_backend(server).check()
    assert not health.alive
    assert "1045" in health.message
    assert "not-the-one" not in health.message
