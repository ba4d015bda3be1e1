"""`provisioning backends check --deep` says what broken servers lack, and leaves nothing there."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from provisioning.cli.main import cli
from provisioning.configuration import config
from provisioning.configuration.secrets import generate_key
from provisioning.credentials.reconcile import resume
from provisioning.installation import Installation, build_installation
from provisioning.orphans.comparison import build_report
from provisioning.state import failpoints
from provisioning.state.bootstrap import prepare_state
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.backends.tls_front import write_pair
from tests.faults.engines.base import ADMIN_PASSWORD
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.engines.postgres import PostgresEngine
from tests.faults.stack import Points

#: The printed line of a server that works ends so.
MADE = "made and dropped a credential"


class Deep:
    """An installation, and its deep check as operators call it."""

    def __init__(self, directory: Path) -> None:
        self.environment = {
            "STATE_URL": f"sqlite:///{directory}/state.db",
            "BROKER_URL": "redis://127.0.0.1:1/0",
            "ENCRYPTION_KEYS": generate_key().reveal(),
            "CLAIM_SECONDS": "2",
        }

    def installation(self, **variables: str) -> Installation:
        installation = build_installation(config.load({**self.environment, **variables}))
        prepare_state(installation.database)
        return installation

    def check(self, code: int, **variables: str) -> str:
        """Return what is printed, without the table's lines, and with nothing left behind."""
        self.installation().close()
        environment = {**self.environment, **variables}
        done = CliRunner().invoke(cli, ["backends", "check", "--deep"], env=environment)
        assert done.exit_code == code, done.output
        return done.output


@pytest.fixture
def deep(tmp_path: Path) -> Deep:
    return Deep(tmp_path)


def rows(installation: Installation) -> list[tuple[str, str | None]]:
    with installation.database.read() as session:
        return [(row.state, row.slot) for row in session.scalars(select(Credentials))]


def require_clean(deep: Deep, **variables: str) -> None:
    """Nothing is left on the server, and every row is closed."""
    installation = deep.installation(**variables)
    assert set(rows(installation)) <= {(CredentialsState.DROPPED, None)}
    report = build_report(installation)
    assert report.orphans == report.unknown == []
    installation.close()


def test_servers_that_work_make_and_drop_a_credential(
    deep: Deep, mysql: MySQLEngine, postgresql: PostgresEngine
) -> None:
    variables = {"MYSQL_URL": mysql.url, "POSTGRESQL_URL": postgresql.url}
    printed = deep.check(0, **variables)
    assert printed.count(MADE) == 2
    installation = deep.installation(**variables)
    assert rows(installation) == [(CredentialsState.DROPPED, None)] * 2
    installation.close()
    require_clean(deep, **variables)


@pytest.mark.parametrize("point", ["trial.recorded", "create.login", "trial.made"])
def test_what_a_check_that_died_made_is_removed_by_the_sweep(
    deep: Deep, mysql: MySQLEngine, tmp_path: Path, point: str
) -> None:
    """The process ends without a word: the point's error passes every handler of the check."""
    points = Points(tmp_path / "points")
    points.arm(point, "error")
    failpoints.watch(str(points.directory))
    try:
        deep.check(1, MYSQL_URL=mysql.url)
    finally:
        failpoints.watch("")
    installation = deep.installation(MYSQL_URL=mysql.url)
    assert rows(installation) == [(CredentialsState.DROPPING, None)]
    with installation.database.write() as session:
        [row] = session.scalars(select(Credentials))
        # The claim of the dead has run out.
        row.claim_until = 0
    assert build_report(installation).orphans == []
    resume(installation, row.id)
    assert rows(installation) == [(CredentialsState.DROPPED, None)]
    installation.close()
    require_clean(deep, MYSQL_URL=mysql.url)


# Broken servers -------------------------------------------------------------------------


def unpack_policy(directory: Path) -> Path:
    """Return a directory with the plugin of the policy, which comes with Debian's whole server."""
    target = directory / "package"
    target.mkdir()
    target.chmod(0o755)
    fetch = "apt-get download mariadb-server"
    try:
        # A machine on which everything else is installed may have no lists of packages.
        for command in (
            f"{fetch} || {{ apt-get update -q && {fetch}; }}",
            "dpkg-deb -x mariadb-server_*.deb .",
        ):
            subprocess.run(["sh", "-c", command], cwd=target, check=True, capture_output=True)
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"the plugin of the password policy cannot be had: {problem.stderr[-200:]!r}")
    directory.chmod(0o755)
    return target / "usr/lib/mysql/plugin"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_pair(tmp_path_factory.mktemp("certificate"), "server")


@pytest.fixture(scope="module")
def broken(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]
) -> Iterator[MySQLEngine]:
    """A server of these tests alone, with a certificate and a password policy."""
    if MariaDB.missing():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    files, directory = certificate, tmp_path_factory.mktemp("broken")
    for file in files:
        Path(file).chmod(0o644)
    for parent in (Path(files[0]).parent, Path(files[0]).parent.parent):
        parent.chmod(0o755)
    options = (
        f"--ssl-cert={files[0]}",
        f"--ssl-key={files[1]}",
        f"--plugin-dir={unpack_policy(directory)}",
    )
    engine = MySQLEngine(MariaDB(directory, extra_options=options))
    engine.start()
    # The password of its root is there before it would be refused.
    engine.run("INSTALL SONAME 'simple_password_check'")
    yield engine
    engine.stop()


@pytest.fixture
def change(broken: MySQLEngine) -> Iterator[Callable[[str, str], None]]:
    """Run a statement on the broken server; another one mends it again."""
    mending: list[str] = []

    def run(statement: str, mend: str) -> None:
        mending.append(mend)
        broken.run(statement)

    yield run
    broken.run(*mending)


def test_passwords_satisfy_a_policy_of_all_classes(deep: Deep, broken: MySQLEngine) -> None:
    assert broken.run("SELECT @@simple_password_check_other_characters") == [(1,)]
    assert MADE in deep.check(0, MYSQL_URL=broken.url)


Change = Callable[[str, str], None]


def test_a_policy_that_passwords_do_not_satisfy_is_named(
    deep: Deep, broken: MySQLEngine, change: Change
) -> None:
    setting = "SET GLOBAL simple_password_check_minimal_length"
    change(f"{setting} = 30", f"{setting} = 8")
    assert (
        "the server's password policy refuses the service's passwords, which have 24 characters: "
        "upper and lower letters, digits and underscores (server default: CREATE USER: error 1819"
    ) in deep.check(1, MYSQL_URL=broken.url)
    require_clean(deep, MYSQL_URL=broken.url)


def test_an_anonymous_account_that_shadows_is_named(
    deep: Deep, broken: MySQLEngine, change: Change
) -> None:
    change("CREATE USER ''@'127.0.0.1' IDENTIFIED BY 'Ab1_cdefgh'", "DROP USER ''@'127.0.0.1'")
    assert (
        "new logins are refused: an account without a name is taken before them for connections "
        "from its host: DROP USER ''@'127.0.0.1'"
    ) in deep.check(1, MYSQL_URL=broken.url)
    require_clean(deep, MYSQL_URL=broken.url)


def test_tls_that_is_required_and_not_configured_is_named(
    deep: Deep, broken: MySQLEngine, certificate: tuple[str, str]
) -> None:
    assert (
        "new logins have to use TLS (require_tls), and the service has none configured to try "
        "them with: set tls_ca"
    ) in deep.check(1, MYSQL_URL=f"{broken.url}?require_tls=true")
    require_clean(deep, MYSQL_URL=broken.url)
    with_tls = f"{broken.url}?tls_ca={certificate[0]}"
    broken.run("SET GLOBAL require_secure_transport = ON")
    try:
        assert (
            "the server takes TLS connections alone, and none is configured: set tls_ca"
        ) in deep.check(1, MYSQL_URL=broken.url)
        assert MADE in deep.check(0, MYSQL_URL=with_tls)
    finally:
        # Who may not come in without TLS mends it with TLS.
        with pymysql.connect(
            host=broken.server.host,
            port=broken.server.port,
            user="root",
            password=broken.server.password,
            ssl_ca=certificate[0],
        ) as connection:
            connection.cursor().execute("SET GLOBAL require_secure_transport = OFF")


def test_a_certificate_that_is_not_trusted_is_named(
    deep: Deep, broken: MySQLEngine, tmp_path: Path
) -> None:
    other, _ = write_pair(tmp_path, "other")
    assert (
        "the server's certificate is not trusted: it is not from an authority in tls_ca, or not "
        "for the name 127.0.0.1"
    ) in deep.check(1, MYSQL_URL=f"{broken.url}?tls_ca={other}")


def test_a_right_that_is_missing_is_named(deep: Deep, mysql: MySQLEngine) -> None:
    right = mysql.creation_rights()[0]
    mysql.run(right.take)
    try:
        assert "the admin login fault_admin lacks a right: GRANT ALL PRIVILEGES" in deep.check(
            1, MYSQL_URL=mysql.url
        )
    finally:
        mysql.run(right.give)
    require_clean(deep, MYSQL_URL=mysql.url)


def test_an_admin_login_that_is_refused_is_named(
    deep: Deep, mysql: MySQLEngine, postgresql: PostgresEngine
) -> None:
    urls = [engine.url.replace(ADMIN_PASSWORD, "wrong") for engine in (mysql, postgresql)]
    printed = deep.check(1, MYSQL_URL=urls[0], POSTGRESQL_URL=urls[1])
    assert "its password is wrong, or there is no account for connections from this" in printed
    assert printed.count("the admin login fault_admin is refused: its password is wrong") == 2


def test_a_right_that_is_missing_on_postgresql_is_named(
    deep: Deep, postgresql: PostgresEngine
) -> None:
    for right in postgresql.creation_rights():
        postgresql.run(right.take)
        try:
            printed = deep.check(1, POSTGRESQL_URL=postgresql.url)
        finally:
            postgresql.run(right.give)
        assert "the admin login cannot " in printed or "lacks a right" in printed, printed
    require_clean(deep, POSTGRESQL_URL=postgresql.url)


# The same on PostgreSQL -----------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresEngine]:
    """A server that takes TLS connections alone, and looks at passwords."""
    if Postgres.missing():
        pytest.skip("postgres is not installed: apt-get install postgresql")
    server = Postgres(tmp_path_factory.mktemp("strict"))
    engine = PostgresEngine(server)
    engine.start()
    engine.run(
        "ALTER SYSTEM SET shared_preload_libraries = 'passwordcheck'", "ALTER SYSTEM SET ssl = on"
    )
    engine.stop()
    owner = server.data.stat()
    pair = write_pair(server.directory, "own")
    for name, content in zip(("server.crt", "server.key"), pair, strict=True):
        file = server.data / name
        shutil.copyfile(content, file)
        os.chown(file, owner.st_uid, owner.st_gid)
        file.chmod(0o600)
    rules = server.data / "pg_hba.conf"
    rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    engine.start()
    yield engine
    engine.stop()


def test_tls_and_a_policy_of_postgresql_are_met(deep: Deep, strict: PostgresEngine) -> None:
    url = f"{strict.url}?tls_mode=verify-full&tls_ca={strict.server.directory / 'own.pem'}"
    assert MADE in deep.check(0, POSTGRESQL_URL=url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("tls_mode=disable", "the server refuses connections without TLS: set tls_mode (server"),
        (
            "tls_mode=verify-full&tls_ca={other}",
            "the server's certificate is not trusted: it is not from an authority in tls_ca, or "
            "not for the name 127.0.0.1",
        ),
    ],
)
def test_wrong_tls_of_postgresql_is_named(
    deep: Deep, strict: PostgresEngine, tmp_path: Path, options: str, said: str
) -> None:
    other, _ = write_pair(tmp_path, "other")
    url = f"{strict.url}?{options.format(other=other)}"
    assert said in deep.check(1, POSTGRESQL_URL=url)
