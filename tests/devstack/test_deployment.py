"""The Procfile, the compose file, the image's entry point and the file of secrets agree."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import venv
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from honcho.environ import parse as parse_environment

from devstack.procfile import procfile_commands, service_environment
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.queues import queue_of, upkeep_beside
from provisioning.state.migrations import NEWEST

TREE = Path(__file__).parents[2]
SERVICE_PROCESSES = {"front": "web", "worker": "worker", "beat": "beat"}
VARIABLE = re.compile(r"\$\{([A-Z_]+)([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((TREE / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    lines = (TREE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_procfile_names_the_processes() -> None:
    assert set(procfile_commands()) == {"web", "worker", "docker", "beat"}


def test_programs_of_the_procfile_are_installed() -> None:
    path = service_environment({})["PATH"]
    for command in procfile_commands().values():
        assert shutil.which(command.split()[0], path=path)


def test_the_workers_of_the_procfile_take_from_all_queues() -> None:
    taken = re.findall(r"--queues (\S+)", "\n".join(procfile_commands().values()))
    jobs = {queue_of(backend) for backend in BACKENDS}
    pairs = [f"{queue},{upkeep_beside(queue)}" for queue in jobs]
    assert sorted(taken) == sorted(pairs)


def test_options_of_the_web_line_exist() -> None:
    gunicorn = [sys.executable, "-m", "gunicorn", "--help"]
    known = subprocess.run(gunicorn, capture_output=True, text=True, check=True).stdout
    for option in re.findall(r"--[a-z0-9-]+", procfile_commands()["web"]):
        assert option in known


@pytest.mark.parametrize(("service", "process"), SERVICE_PROCESSES.items())
def test_compose_runs_the_line_of_the_procfile(
    compose: dict[str, Any], service: str, process: str
) -> None:
    assert compose["services"][service]["command"] == [process]
    assert process in procfile_commands()


def test_compose_migrates_before_anything_of_ours_starts(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["command"] == ["provisioning", "db", "upgrade"]
    for name in SERVICE_PROCESSES:
        conditions = services[name]["depends_on"]
        assert conditions["migrate"]["condition"] == "service_completed_successfully"


def test_compose_waits_only_for_services_that_can_say_they_are_healthy(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    for service in services.values():
        for other, rule in service.get("depends_on", {}).items():
            assert other in services
            if rule["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_compose_pins_images_to_a_major_version(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if "build" not in service:
            assert re.fullmatch(r"[a-z]+:[0-9]+(\.[0-9]+)*", service["image"])


def test_compose_has_no_secret_of_its_own() -> None:
    text = (TREE / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"PASSWORD|ENCRYPTION_KEYS|REDISCLI_AUTH", line):
            assert VARIABLE.search(line), line


def test_compose_variables_are_required_and_in_the_example(example: dict[str, str]) -> None:
    used = VARIABLE.findall((TREE / "docker-compose.yml").read_text())
    assert used
    assert {name for name, _ in used} == set(example)
    assert {name for name, rest in used if rest == "-"} == {"PUBLIC_URL", "TRUSTED_PROXIES"}
    assert {rest for _, rest in used} == {":?run make env-file", "-"}


def test_compose_volumes_are_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]


def test_compose_settings_are_settings_of_the_service(compose: dict[str, Any]) -> None:
    from provisioning.configuration.settings import KEYS

    assert set(compose["services"]["front"]["environment"]) <= {key.name for key in KEYS}


def test_env_file_has_fresh_private_secrets_and_is_made_once(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(TREE / name, tmp_path)
    make = ["make", "--silent", "--directory", str(tmp_path), "env-file"]
    subprocess.run(make, check=True, capture_output=True)
    written = tmp_path / ".env"
    first = written.read_text()
    values = parse_environment(first)
    subprocess.run(make, check=True, capture_output=True)
    assert written.read_text() == first
    assert written.stat().st_mode & 0o077 == 0
    passwords = [value for name, value in values.items() if name.endswith("_PASSWORD")]
    assert len(set(passwords)) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", password) for password in passwords)
    Fernet(
        dict(line.split("=", 1) for line in first.splitlines() if "=" in line)["ENCRYPTION_KEYS"]
    )
    assert values["FRONT_PORT"] == "8000"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder of the image that holds the entry point and a Procfile."""
    shutil.copy(TREE / "docker-entrypoint.sh", tmp_path)
    (tmp_path / "Procfile").write_text("web: sh -c 'echo $$' ${WORD:-default}\nwebber: false\n")
    return tmp_path


def enter(image: Path, *arguments: str) -> tuple[int, str]:
    command = ["sh", str(image / "docker-entrypoint.sh"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        return child.pid, child.stdout.read().strip()


def test_entry_point_becomes_the_process_of_the_procfile(image: Path) -> None:
    pid, output = enter(image, "web")
    assert output == str(pid)


def test_entry_point_runs_any_other_command(image: Path) -> None:
    assert enter(image, "echo", "a b", "$HOME")[1] == "a b $HOME"


def test_image_gets_everything_it_copies() -> None:
    sent = (TREE / ".dockerignore").read_text()
    for name in ("Procfile", "docker-entrypoint.sh", "setup.cfg", "pyproject.toml"):
        assert f"!{name}" in sent
    assert not re.search(r"^!\.env", sent, re.MULTILINE)


# The wheel ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment outside of the tree that has the wheel, and our dependencies for its own."""
    directory = tmp_path_factory.mktemp("wheel")
    source, environment = directory / "source", directory / "environment"
    # A build leaves files beside its source.
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(TREE, source, ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index"]
    build = [
        *pip,
        "wheel",
        *alone,
        "--no-build-isolation",
        "--wheel-dir",
        f"{directory}",
        f"{source}",
    ]
    subprocess.run(build, check=True)
    venv.create(environment, with_pip=False)
    python = environment / "bin/python"
    (wheel,) = directory.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *alone, wheel], check=True)
    # A path in such a file is no place of others: the editable installation is not found there.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment


def run_installed(environment: Path, program: str, *arguments: str, **settings: str) -> str:
    """Run a program of the environment, outside of the tree, and return what it prints."""
    return subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=environment,
        env={"PATH": os.defpath, **settings},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_the_wheel_has_every_module(installed: Path) -> None:
    """Migrations among them, which nobody imports."""
    (packages,) = installed.glob("lib/python*/site-packages")
    roots = ("api", "provisioning", "workers", "devstack", "snowflake_simulator")
    modules = [path.relative_to(TREE) for root in roots for path in (TREE / root).rglob("*.py")]
    assert len(modules) > 100
    assert [str(module) for module in modules if not (packages / module).exists()] == []


def test_an_installed_wheel_upgrades_a_state(installed: Path) -> None:
    assert "Usage: provisioning" in run_installed(installed, "provisioning", "--help")
    settings = {
        "STATE_URL": f"sqlite:///{installed}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    }
    code = "import api.app, celeryconfig, workers.app; print(api.app.__file__)"
    place = run_installed(installed, "python", "-c", code, **settings)
    assert place.startswith(str(installed))
    run_installed(installed, "provisioning", "db", "upgrade", **settings)
    with closing(sqlite3.connect(installed / "state.db")) as state:
        assert state.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEWEST,)]
