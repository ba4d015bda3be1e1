"""What `provisioning check` reads off the settings."""

import pytest

from provisioning.cli.check import look_at_settings
from provisioning.configuration import config
from provisioning.configuration.secrets import generate_key

GOOD = {
    "STATE_URL": "postgresql+psycopg2://u:p@db.example.com/state",
    "BROKER_URL": "amqp://u:p@broker.example.com//",
    "ENCRYPTION_KEYS": generate_key().reveal(),
    "PUBLIC_URL": "https://provisioning.example.com",
    "CREATION_LIMIT_SECONDS": "30s",
    "MYSQL_URL": "mysql://provisioning:p@m.example.com?tls_ca=/etc/ca.pem",
}


def look(**changes: str) -> list[tuple[str, str]]:
    """Return weight and subject of what is found."""
    found = look_at_settings(config.load({**GOOD, **changes}))
    return [(str(finding.weight), finding.about) for finding in found]


def test_a_good_configuration_has_no_findings() -> None:
    assert look() == []


@pytest.mark.parametrize(
    "name,value,weight,about",
    [
        ("STATE_URL", "sqlite:////tmp/state.db", "note", "STATE_URL"),
        ("BROKER_URL", "redis://broker.example.com/0", "warning", "BROKER_URL"),
        ("PUBLIC_URL", "", "note", "PUBLIC_URL"),
        ("PUBLIC_URL", "http://provisioning.example.com", "warning", "PUBLIC_URL"),
        ("TRUSTED_PROXIES", "*", "warning", "TRUSTED_PROXIES"),
        ("STORAGE_API_URL", "http://connection.example.com", "warning", "STORAGE_API_URL"),
        ("DELETE_WAIT_SECONDS", "60s", "warning", "DELETE_WAIT_SECONDS"),
        ("CREATION_LIMIT_SECONDS", "120s", "note", "CREATION_LIMIT_SECONDS"),
        ("MAINTENANCE_MESSAGE", "soon", "warning", "MAINTENANCE_MESSAGE"),
        ("PROVISIONING_FAILPOINTS", "/tmp", "error", "PROVISIONING_FAILPOINTS"),
        ("MYSQL_URL", "", "warning", "servers"),
        ("MYSQL_URL", f"{GOOD['MYSQL_URL']}&public_host=localhost", "warning", "mysql default"),
        ("MYSQL_URL", "mysql://provisioning:p@m.example.com", "note", "mysql default"),
        (
            "MYSQL_URL",
            "mysql://root:p@m.example.com?tls_ca=/etc/ca.pem",
            "warning",
            "mysql default",
        ),
    ],
)
def test_what_will_hurt_is_found(name: str, value: str, weight: str, about: str) -> None:
    assert look(**{name: value}) == [(weight, about)]


@pytest.mark.parametrize("secret", ["STATE_URL", "BROKER_URL", "ENCRYPTION_KEYS"])
def test_no_secret_is_told(secret: str) -> None:
    for finding in look_at_settings(config.load({**GOOD, "PUBLIC_URL": ""})):
        assert GOOD[secret] not in finding.text
