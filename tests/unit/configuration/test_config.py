"""The configuration: defaults, clear errors, several servers."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from provisioning.cli.main import cli
from provisioning.configuration import config
from provisioning.configuration.secrets import generate_key
from provisioning.errors import ConfigurationError

DAY = 86_400
NEEDED = {
    "STATE_URL": "sqlite:////tmp/x.db",
    "BROKER_URL": "redis://:brokersecret@127.0.0.1:6379/0",
    "ENCRYPTION_KEYS": generate_key().reveal(),
}


def load(**extra: str) -> config.Config:
    return config.load({**NEEDED, **extra})


def test_defaults_are_the_contracts() -> None:
    settings = load()
    assert settings.lifetime("mysql", "sandbox") == config.Lifetime(14 * DAY, None)
    assert settings.lifetime("mysql", "transformations") == config.Lifetime(7 * DAY, None)
    assert settings.body_limit_bytes == 10 * 1024 * 1024
    assert settings.creation_limit_seconds == 120
    assert settings.delete_wait_seconds == 30
    assert settings.token_cache_seconds == 60
    assert settings.token_timeout_seconds == 10
    assert settings.name_prefix is None


@pytest.mark.parametrize("name", ["STATE_URL", "BROKER_URL", "ENCRYPTION_KEYS"])
def test_a_missing_key_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        config.load({key: value for key, value in NEEDED.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYSQL_SANDBOX_LIFETIME", "soon"),
        ("MYSQL_SANDBOX_LIFETIME", "0s"),
        ("NAME_PREFIX", "a b"),
        ("LOG_FORMAT", "xml"),
        ("PROJECT_FLAGS_CHECK", "perhaps"),
        ("BODY_LIMIT_BYTES", "-1"),
        ("MYSQL_URL", "http://x"),
        ("MYSQL_URL", "mysql://u:p@host:port"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load(**{name: value})


def test_a_wrong_secret_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(MYSQL_URL="mysql:/root:hunter2@x")
    assert "hunter2" not in str(caught.value)


def test_lifetimes_take_units_and_none() -> None:
    settings = load(MYSQL_SANDBOX_LIFETIME="2h", MYSQL_TRANSFORMATIONS_LIFETIME="none")
    assert settings.lifetime("mysql", "sandbox").seconds == 7200
    assert settings.lifetime("mysql", "transformations").seconds is None


def test_a_projects_limit_wins_over_its_server_and_that_over_the_type(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    server = 'host="h"\nuser="u"\npassword="p"\n'
    file.write_text(
        f'[[mysql]]\nname="a"\nlifetimes=["sandbox:2h","transformations:none"]\n{server}'
        f'[[mysql]]\nname="b"\n{server}'
    )
    settings = load(
        SERVERS_FILE=str(file),
        MYSQL_SANDBOX_LIFETIME="9h",
        MYSQL_SANDBOX_MAX_LIFETIME="3d",
        DOCKER_URL="unix:///s?lifetimes=jupyter:3h,rstudio:4h",
    )

    def seconds(backend: str, type_: str, server: str | None = None, **limits: int) -> int | None:
        names = {name.replace("__", "."): value for name, value in limits.items()}
        return settings.lifetime(backend, type_, names, server).seconds

    assert seconds("mysql", "sandbox") == seconds("mysql", "sandbox", "b") == 9 * 3600
    assert seconds("mysql", "sandbox", "a") == 2 * 3600
    assert seconds("mysql", "transformations", "a") is None
    assert seconds("mysql", "sandbox", "a", mysql__sandbox__expirationSeconds=60) == 60
    assert seconds("mysql", "sandbox", "a", sandbox__expirationSeconds=60) == 2 * 3600
    assert settings.lifetime("mysql", "sandbox", server="a").maximum == 3 * DAY
    assert seconds("mysql", "sandbox", mysql__sandbox__expirationSeconds=10**18) == 3_153_600_000
    both = {"sandbox__expirationSeconds": 60, "docker__rstudio__expirationSeconds": 70}
    assert seconds("docker", "jupyter", "default") == 3 * 3600
    assert seconds("docker", "jupyter", "default", **both) == 60
    assert seconds("docker", "rstudio", "default", **both) == 70


@pytest.mark.parametrize(
    ("lifetimes", "said"),
    [
        ("sandbox", "lifetimes: write a type and its lifetime, such as sandbox:2d .got 'sandbox'"),
        ("sandbox:soon", "lifetimes: write a number with s, m, h or d .* .got 'sandbox:soon'"),
        ("sandbox:0", "lifetimes: must be at least 1s, or none"),
        ("jupyter:2d", "lifetimes: 'jupyter' is not a type of mysql"),
    ],
)
def test_a_servers_wrong_lifetime_is_explained(lifetimes: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"MYSQL_URL.{said}"):
        load(MYSQL_URL=f"mysql://u:p@h?lifetimes={lifetimes}")


def test_an_empty_prefix_is_a_choice_of_its_own() -> None:
    assert load(NAME_PREFIX="").name_prefix == ""


def test_one_server_comes_from_a_url() -> None:
    (server,) = load(
        MYSQL_URL="mysql://root:p%40ss@db.internal:3307?public_host=db.example.com&require_tls=true"
    ).servers["mysql"]
    assert server.require_tls
    assert (server.host, server.port, server.public_host) == ("db.internal", 3307, "db.example.com")
    assert server.password.reveal() == "p@ss"


def test_a_snowflake_account_comes_from_a_url() -> None:
    (server,) = load(
        SNOWFLAKE_URL="snowflake://ops:p%40ss@acme.snowflakecomputing.com?warehouse=WH"
    ).servers["snowflake"]
    assert (server.port, server.protocol, server.database) == (443, "https", "sapi_{project}")
    assert (server.warehouse, server.user_type) == ("WH", "LEGACY_SERVICE")
    assert (server.has_passwords, server.makes_key_pairs) == (True, False)
    assert server.password.reveal() == "p@ss"


def test_snowflake_users_without_passwords_have_key_pairs() -> None:
    (server,) = load(
        SNOWFLAKE_URL="snowflake://ops:p@acme.example.com?warehouse=W&user_type=SERVICE"
        "&access_tokens=true&access_token_days=90"
    ).servers["snowflake"]
    assert (server.has_passwords, server.makes_key_pairs) == (False, True)
    assert (server.access_tokens, server.access_token_days) == (True, 90)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "warehouse is missing"),
        ("warehouse=W&private_key_file=/k", "either a password or a private_key_file"),
        ("warehouse=W&user_type=ROBOT", "LEGACY_SERVICE, SERVICE or PERSON"),
        ("warehouse=W&access_tokens=true", "LEGACY_SERVICE has passwords"),
        ("warehouse=W&user_type=SERVICE&access_token_days=0", "access_token_days must be 1 to 365"),
        ("warehouse=W&key_pairs=perhaps", "key_pairs must be a bool"),
        ("warehouse=W&protocol=ftp", "https or http"),
        ("warehouse=W&tls_ca=/ca", "tls_ca is not an option"),
    ],
)
def test_a_wrong_snowflake_account_is_explained(options: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(SNOWFLAKE_URL=f"snowflake://ops:pass@acme.example.com?{options}")


def test_a_docker_engine_comes_from_a_url() -> None:
    (server,) = load(
        DOCKER_URL="unix:///run/docker.sock?public_host=sb&cpus=0.5&https=false"
    ).servers["docker"]
    assert (server.address, server.public_host) == ("unix:///run/docker.sock", "sb")
    assert (server.cpus, server.memory_mb, server.https) == (0.5, 8192, False)
    (server,) = load(
        DOCKER_URL="tcp://h:2376?tls_ca=a&tls_cert=b&tls_key=c&ports=1000-1009"
    ).servers["docker"]
    assert server.address == "tcp://h:2376"
    assert list(server.port_range) == list(range(1000, 1010))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://host", "write unix:///var/run/docker.sock or tcp://host:2376"),
        ("unix://relative.sock", "write unix:"),
        ("tcp://host:x", "not an address"),
        ("tcp://h:2376?tls_ca=a", "tls_ca, tls_cert and tls_key go together"),
        ("unix:///s?tls_ca=a&tls_cert=b&tls_key=c", "with a tcp address"),
        ("unix:///s?tls_certificate=a", "tls_certificate and tls_private_key go together"),
        ("unix:///s?ports=20000", "ports must be a range"),
        ("unix:///s?ports=2-1", "ports must be a range"),
        ("unix:///s?ports=60000-70000", "ports must be a range"),
        ("unix:///s?networks=10.0.0.1/16", "networks must be a range"),
        ("unix:///s?networks=10.0.0.0/24", "room for 32 sandboxes, ports for 8000"),
        ("unix:///s?bind=all", "bind must be an IPv4 address"),
        ("unix:///s?cpus=0", "cpus must be above 0"),
        ("unix:///s?cpus=two", "cpus must be a float"),
        ("unix:///s?memory_mb=0", "memory_mb must be above 0"),
    ],
)
def test_a_wrong_docker_engine_is_explained(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"DOCKER_URL.*{said}"):
        load(DOCKER_URL=url)


def test_several_servers_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    file.write_text(
        '[[mysql]]\nname="a"\nhost="h1"\nuser="u"\npassword="p"\ntypes=["sandbox"]\n'
        '[[mysql]]\nname="b"\nhost="h2"\nuser="u"\npassword="p"\ntakes_new=false\n'
    )
    first, second = load(SERVERS_FILE=str(file)).servers["mysql"]
    assert first.takes("sandbox")
    assert not first.takes("transformations")
    assert not second.takes("sandbox")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[mysql]]\nname="a"\n', "host is missing"),
        ('[[mysql]]\nname="a"\nhost=1\n', "host must be a str"),
        ('[[mysql]]\ncolour="a"\n', "colour is not known"),
        ('[[mysql]]\nname="a"\nhost="h"\nuser="u"\npassword="p"\ntypes=["x"]\n', "'x'"),
        ("[[mysql]\n", "SERVERS_FILE"),
    ],
)
def test_a_wrong_servers_file_is_explained(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "servers.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load(SERVERS_FILE=str(file))


def test_two_servers_cannot_have_one_name(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    table = '[[mysql]]\nname="a"\nhost="h"\nuser="u"\npassword="p"\n'
    file.write_text(table + table)
    with pytest.raises(ConfigurationError, match="two mysql servers"):
        load(SERVERS_FILE=str(file))


def test_the_reference_is_the_one_in_the_documents() -> None:
    printed = CliRunner().invoke(cli, ["config", "--reference"])
    document = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert printed.output == document.read_text()


def test_the_command_prints_the_configuration_without_secrets() -> None:
    secret = {**NEEDED, "MYSQL_URL": "mysql://root:hunter2@db.internal"}
    printed = CliRunner().invoke(cli, ["config"], env=secret)
    assert printed.exit_code == 0
    assert "MYSQL_SANDBOX_LIFETIME=1209600" in printed.output
    for hidden in ("hunter2", "brokersecret", NEEDED["ENCRYPTION_KEYS"]):
        assert hidden not in printed.output
