"""`provisioning check` on a running service, and on one that does not work."""

from click.testing import CliRunner, Result

from provisioning.cli.main import cli
from tests.contract.conftest import ServiceMaker
from tests.faults.rows import wait_swept
from tests.support.service import Service


def check(service: Service, **changes: str) -> Result:
    return CliRunner().invoke(cli, ["check"], env={**service.environment, **changes})


def test_a_working_service_has_no_error(make_service: ServiceMaker) -> None:
    with make_service({}, fronts=0, workers=1, beats=1) as service:
        wait_swept(service)
        found = check(service)
    assert found.exit_code == 0, found.output
    for absent in ("error", "sweeps", "workers"):
        assert absent not in found.output


def test_what_does_not_work_is_named(make_service: ServiceMaker) -> None:
    with make_service({}, fronts=0) as service:
        found = check(service, POSTGRESQL_URL="postgresql://u:hidden@127.0.0.1:1/warehouse")
    assert found.exit_code == 1
    errors = [line for line in found.output.splitlines() if "error" in line]
    (server,) = [line for line in errors if "postgresql default" in line]
    assert "onnect" in server and "hidden" not in server
    assert any("workers" in line and "none answers" in line for line in errors)
