"""Why a request was answered 503: a reason for the caller, the cause in the log."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from devstack.mariadb import MariaDB
from provisioning.cli.main import cli
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import require_error, require_retry_after, require_unavailable
from tests.support.client import Answer
from tests.support.service import Service


@pytest.fixture(scope="module")
def limited(make_service: ServiceMaker, mariadb: MariaDB) -> Iterator[Service]:
    """One place for a credential, and a warehouse whose server is away."""
    environment = {
        "MYSQL_URL": f"{mariadb.url}?max_credentials=1",
        "POSTGRESQL_URL": "postgresql://admin:wrong@127.0.0.1:1/warehouse",
    }
    with make_service(environment) as service:
        yield service


def test_a_full_server_has_a_reason_of_its_own(limited: Service) -> None:
    made = limited.client().create()
    refused = limited.client().post("/provisioning/mysql", {"type": "sandbox"})
    message = "Backend 'mysql' has no room for more credentials, try again later."
    require_error(refused, 503, "backend_full", message)
    require_retry_after(refused)
    cause = line_of(limited, refused)["cause"]
    assert cause.startswith("full by max_credentials: ") and cause.endswith(" (1)")
    listed = CliRunner().invoke(cli, ["servers", "list"], env=limited.environment)
    assert "1, full" in listed.output, listed.output
    assert made["credentials"]["password"] not in listed.output


def test_the_log_tells_what_a_server_said(limited: Service) -> None:
    refused = limited.client().post("/provisioning/postgresql", {"type": "sandbox"})
    require_unavailable(refused, "postgresql")
    line = line_of(limited, refused)
    assert "connect" in line["cause"].lower(), line
    assert "wrong" not in line["cause"]


def line_of(service: Service, answer: Answer) -> dict[str, Any]:
    """Return the line of the log that an error's id leads to."""
    lines = [line for line in service.logs().splitlines() if answer.body["exceptionId"] in line]
    (line,) = map(json.loads, lines)
    return dict(line)
