"""Sandboxes on a real Docker engine: what every backend must do, and what only this one does."""

import contextlib
import hashlib
import io
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from devstack import images
from devstack.docker import DockerEngine
from devstack.processes import Process
from provisioning.backends.base import (
    ContentRefused,
    EngineRefused,
    EngineUnavailable,
    Files,
    NameInUse,
    PortTaken,
    Spec,
)
from provisioning.backends.docker import DockerBackend
from provisioning.configuration import config
from provisioning.configuration.secrets import Secret, generate_key, generate_password
from provisioning.configuration.servers import DockerServer
from provisioning.installation import build_installation
from provisioning.orphans import comparison
from provisioning.orphans.repair import repair
from provisioning.state import failpoints
from provisioning.state.bootstrap import prepare_state
from provisioning.state.claims import ClaimLost
from provisioning.state.failpoints import FailpointError
from tests.backends.case import lease
from tests.backends.docker_case import CODE, DockerCase, Loading, say_nothing
from tests.backends.tls_front import tls_front, write_pair
from tests.support.certificates import make_certificate
from tests.support.deadlines import DEADLINE, bar, wait_until
from tests.support.sandboxes import docker_url

CREATE_POINTS = ("network", "container", "files", "started", "ready")
#: Those after which something of another kind is left.
DROP_POINTS = ("network", "container", "started")
#: Seconds until a call to a hung engine fails: many times what one to another engine takes.
HUNG_SECONDS = 3


@pytest.fixture(scope="module")
def shared(docker_case: DockerCase) -> tuple[Spec, Secret]:
    """A sandbox that tests only look at."""
    return docker_case.made()


@pytest.fixture
def other_case(docker_case: DockerCase) -> Iterator["OtherCase"]:
    other = OtherCase(docker_case.engine)
    yield other
    other.close()


class OtherCase:
    """Makes cases with other options of the server."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self._made: list[DockerCase] = []

    def __call__(self, **options: object) -> DockerCase:
        self._made.append(DockerCase(self.engine, **options))
        return self._made[-1]

    def close(self) -> None:
        for case in self._made:
            case.close()


def script(text: str) -> Loading:
    """Content with a script, by which a stub misbehaves."""
    content = f"# stub: {text}\n".encode()
    return Loading(lambda files: files.put("/data/main.py", io.BytesIO(content), len(content)))


# Crash ----------------------------------------------------------------------------------


# The first test, because an engine that comes back starts every sandbox there is.
def test_a_sandbox_outlives_a_crash_of_its_engine(own_docker_engine: DockerEngine) -> None:
    case = DockerCase(own_docker_engine)
    spec, password = case.made()
    own_docker_engine.kill()
    with pytest.raises(EngineUnavailable):
        case.backend.exists(spec)
    own_docker_engine.start()
    wait_until(lambda: not case.refuses(spec), what="the sandbox answers again")
    assert case.logs_in(spec, password)
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


# Create ---------------------------------------------------------------------------------


def test_a_created_sandbox_serves_its_page_and_knows_its_password(
    docker_case: DockerCase, shared: tuple[Spec, Secret]
) -> None:
    spec, password = shared
    status, page = docker_case.get(spec)
    assert status == 200
    assert "Jupyter" in page
    assert docker_case.logs_in(spec, password)
    assert not docker_case.logs_in(spec, generate_password())
    assert docker_case.backend.describe(spec, password) == {
        "hostname": docker_case.server.public_host,
        "port": spec.port,
        "user": f"t9x4_jupy_70_{spec.credentials_id}",
        "password": password.reveal(),
        "hasHttps": True,
    }


def test_names_are_the_contracts(docker_case: DockerCase) -> None:
    spec = docker_case.spec("rstudio")
    assert spec.user_name == f"t9x4_rstu_70_{spec.credentials_id}"
    assert spec.object_name == f"t9x4_sandbox_{spec.credentials_id}"


def test_content_is_in_place_before_the_page_is_there(docker_case: DockerCase) -> None:
    spec = docker_case.spec()
    big = bytes(range(256)) * 20_000

    def load(files: Files) -> None:
        files.make_directory("/data/in/files/3_sliced")
        files.put("/data/in/tables/a.csv", io.BytesIO(b"a,b\n"), 4)
        files.put("/data/in/files/3_sliced/part.0", io.BytesIO(big), len(big))
        files.put("/data/in/files/\u017elu\u0165 " + "y" * 200, io.BytesIO(b""), 0)

    steps: list[tuple[str, int]] = []
    docker_case.build(
        spec,
        content=Loading(load, packages=("numpy", "pandas")),
        report=lambda step, percent, message: steps.append((step, percent)),
    )
    _, listed = docker_case.run(
        spec,
        "find /data/in -printf '%p %y %u %s\\n'; cat ~/installed-packages; "
        "sha256sum < /data/in/files/3_sliced/part.0; touch /data/in/tables/b /data/out/tables/c",
    )
    lines = listed.splitlines()
    assert "/data/in/tables/a.csv f sandbox 4" in lines
    assert "/data/in/files/3_sliced d sandbox 4096" in lines
    assert f"/data/in/files/\u017elu\u0165 {'y' * 200} f sandbox 0" in lines
    assert lines[-3:-1] == ["numpy", "pandas"]
    assert lines[-1].split()[0] == hashlib.sha256(big).hexdigest()
    assert [step for step, _ in steps] == [
        *("network", "container", "start", "packages", "packages", "page")
    ]
    assert sorted(percent for _, percent in steps) == [percent for _, percent in steps]


def test_a_package_that_cannot_be_installed_is_named(docker_case: DockerCase) -> None:
    spec = docker_case.spec()
    with pytest.raises(ContentRefused, match="^Failed to install package: missing-one$"):
        docker_case.build(spec, content=Loading(packages=("fine", "missing-one")))
    assert "there is no package missing-one" in docker_case.container(spec).logs().decode()
    docker_case.backend.drop(spec, lease())


def test_a_repeated_create_starts_anew_with_the_new_password(docker_case: DockerCase) -> None:
    spec, old = docker_case.made()
    password = generate_password()
    docker_case.build(spec, password, by=lease(token=2))
    assert docker_case.logs_in(spec, password)
    assert not docker_case.logs_in(spec, old)


def test_a_create_that_died_is_made_anew_or_dropped_wherever_it_was(
    docker_case: DockerCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(failpoints, "_DIRECTORY", str(tmp_path))
    spec, password = docker_case.spec(), generate_password()

    def die(spec: Spec, point: str) -> None:
        (tmp_path / f"create.{point}").write_text("error")
        with pytest.raises(FailpointError):
            docker_case.build(spec)
        assert docker_case.remains(spec)

    for point in DROP_POINTS:
        die(spec, point)
        docker_case.backend.drop(spec, lease(token=2))
        assert docker_case.remains(spec) == [], point
    for point in CREATE_POINTS:
        die(spec, point)
    # Another port also means another network.
    spec = replace(spec, port=docker_case.spec().port)
    docker_case.build(spec, password, by=lease(token=2))
    assert docker_case.logs_in(spec, password)


def test_eight_at_once_all_become_ready(docker_case: DockerCase) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: docker_case.made(), range(8)))
        assert all(docker_case.logs_in(*one) for one in made)
        list(pool.map(lambda one: docker_case.backend.drop(one[0], lease()), made))
    assert [docker_case.remains(spec) for spec, _ in made] == [[]] * 8


# Names and ports of others --------------------------------------------------------------


def test_what_lacks_our_label_is_left_alone(docker_case: DockerCase) -> None:
    spec = docker_case.spec()
    labels = {"provisioning.instance": "else", "provisioning.credentials": str(spec.credentials_id)}
    with docker_case.foreign(spec.object_name, labels=labels, network_mode="none") as container:
        for token in (1, 2):
            with pytest.raises(NameInUse):
                docker_case.build(spec, by=lease(token))
        assert not docker_case.backend.exists(spec)
        docker_case.backend.drop(spec, lease())
        container.reload()
        assert container.status == "running"
        assert docker_case.remains(spec) == [f"container {spec.object_name}"]
    network = docker_case.client.networks.create(spec.object_name)
    with pytest.raises(NameInUse):
        docker_case.build(spec)
    docker_case.backend.drop(spec, lease())
    assert docker_case.remains(spec) == [f"network {spec.object_name}"]
    network.remove()


def test_a_port_of_somebody_else_is_told_and_nothing_is_left(docker_case: DockerCase) -> None:
    spec = docker_case.spec()
    network = docker_case.client.networks.create("foreign")
    options = {"network": "foreign", "ports": {"8888/tcp": spec.port}}
    with docker_case.foreign("foreign", **options), pytest.raises(PortTaken):
        docker_case.build(spec)
    network.remove()
    assert docker_case.remains(spec) == []
    # The network that goes with a port may be taken too.
    with pytest.raises(PortTaken):
        docker_case.build(replace(docker_case.spec(), port=docker_case.made()[0].port))


# What holds a sandbox in its place ------------------------------------------------------


def test_limits_and_rights_are_set(docker_case: DockerCase, shared: tuple[Spec, Secret]) -> None:
    attributes = docker_case.container(shared[0]).attrs
    host = attributes["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 256 * 2**20
    assert host["CpuQuota"] == 2 * host["CpuPeriod"]
    assert host["PidsLimit"] == 512
    assert host["RestartPolicy"]["Name"] == "always"
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert host["Init"] is True
    assert list(host["PortBindings"]) == ["8888/tcp"]
    assert not host["Privileged"] and not host["Binds"]
    _, said = docker_case.run(
        shared[0], "id -u; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"
    )
    assert said.split() == ["1000", "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


def test_a_sandbox_reaches_neither_another_one_nor_the_engines_host(
    docker_case: DockerCase, shared: tuple[Spec, Secret], tmp_path: Path
) -> None:
    spec, _ = docker_case.made("rstudio")

    def reaches(address: str, port: int) -> bool:
        look = f"import socket; socket.create_connection(('{address}', {port}), 0.5)"
        return docker_case.run(spec, f'python3 -c "{look}"')[0] == 0

    networks = docker_case.container(shared[0]).attrs["NetworkSettings"]["Networks"]
    (place,) = networks.values()
    assert place["IPAddress"].startswith("10.201.")
    assert reaches("127.0.0.1", 8787)
    assert not reaches(place["IPAddress"], 8888)
    # The other's published port, and a service of the engine's host, both on every address.
    own = docker_case.container(spec).attrs["NetworkSettings"]["Networks"][spec.object_name]
    service = Process("service", tmp_path / "service.log")
    port = docker_case.server.port_range[-1]
    command = [sys.executable, "-m", "http.server", str(port), "--directory", str(tmp_path)]
    service.start(docker_case.engine.network.inside(command))
    try:
        private = replace(spec, port=port)
        wait_until(lambda: not docker_case.refuses(private), what="the service")
        assert not docker_case.refuses(shared[0])
        for address in (own["Gateway"], docker_case.server.public_host):
            assert not reaches(address, port)
            assert not reaches(address, shared[0].port or 0)
    finally:
        service.kill()


def test_no_secret_is_shown_by_the_engine(
    docker_case: DockerCase, shared: tuple[Spec, Secret]
) -> None:
    spec, password = shared
    shown = docker_case.everything_shown(spec)
    _, line = docker_case.run(spec, "cat /run/provisioning/password-hash")
    _, _, digest = line.strip().split(":")
    key = docker_case.certificate.private_key_pem.reveal().splitlines()[1]
    assert spec.object_name in shown
    assert not [secret for secret in (password.reveal(), digest, key) if secret in shown]
    _, modes = docker_case.run(spec, "stat -c '%a %u %n' /run/provisioning /run/provisioning/*")
    files = ("password-hash", "tls.crt", "tls.key", "user")
    assert modes.splitlines() == [
        "700 1000 /run/provisioning",
        *(f"400 1000 /run/provisioning/{name}" for name in files),
    ]


# Look -----------------------------------------------------------------------------------


def test_in_use_follows_connections_from_outside(
    docker_case: DockerCase, shared: tuple[Spec, Secret]
) -> None:
    spec, _ = shared
    assert docker_case.backend.in_use(spec) is False
    _, _ = docker_case.run(
        spec,
        'echo \'{"busyKernels": 2, "lastActivity": "2019-01-10T10:00:00Z"}\' '
        "> ~/activity.json; "
        'python3 -c \'import socket, time; c = socket.create_connection(("127.0.0.1", 8888)); '
        "time.sleep(60)' > /dev/null 2>&1 &",
    )
    assert docker_case.backend.in_use(spec) is False
    with docker_case.connect(spec), docker_case.connect(spec):
        assert docker_case.backend.in_use(spec) is True
        assert docker_case.backend.activity(spec) == {
            "connections": 2,
            "busyKernels": 2,
            "lastActivity": "2019-01-10T10:00:00Z",
        }
    wait_until(lambda: not docker_case.backend.in_use(spec), timeout=bar(2), what="not in use")


def test_an_engine_that_loses_output_hides_nobody(
    docker_case: DockerCase, shared: tuple[Spec, Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = shared
    engine = docker_case.backend._engines[spec.server]
    real, lost = engine.output_of, iter((b"", b""))
    monkeypatch.setattr(engine, "output_of", lambda *given: next(lost, None) or real(*given))
    with docker_case.connect(spec):
        assert docker_case.backend.in_use(spec) is True


def test_a_stopped_sandbox_exists_and_is_started_again_with_its_data(
    docker_case: DockerCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, password = docker_case.made()
    assert docker_case.backend.exists(spec)
    docker_case.run(spec, "echo mine > /data/mine")
    docker_case.container(spec).stop(timeout=1)
    assert docker_case.backend.exists(spec)
    assert not docker_case.backend.in_use(spec)
    assert docker_case.backend.activity(spec) is None
    # Meanwhile the certificate became another one.
    other = make_certificate([docker_case.server.public_host])
    monkeypatch.setattr(docker_case, "certificate", other)
    docker_case.backend.revive(spec)
    assert docker_case.logs_in(spec, password)
    started = docker_case.container(spec).attrs["State"]["StartedAt"]
    docker_case.backend.revive(spec)
    assert docker_case.container(spec).attrs["State"]["StartedAt"] == started
    assert docker_case.run(spec, "cat /data/mine") == (0, "mine\n")
    docker_case.container(spec).stop(timeout=1)
    docker_case.client.networks.get(spec.object_name).remove()
    assert not docker_case.backend.exists(spec)
    docker_case.container(spec).remove()
    assert not docker_case.backend.exists(spec)
    with pytest.raises(EngineRefused, match="is gone"):
        docker_case.backend.revive(spec)


def test_a_note_is_left_whatever_is_there(docker_case: DockerCase) -> None:
    spec, _ = docker_case.made()
    backend = docker_case.backend
    backend.leave_note(spec, "one\n", lease())
    shown = "cat /data/EXPIRES.txt; stat -c '%a %u' /data/EXPIRES.txt"
    assert docker_case.run(spec, shown) == (0, "one\n644 1000\n")
    docker_case.run(spec, "echo mine > /data/mine; ln -sf /data/mine /data/EXPIRES.txt")
    backend.leave_note(spec, "two\n", lease())
    assert docker_case.run(spec, shown) == (0, "two\n644 1000\n")
    assert docker_case.run(spec, "cat /data/mine") == (0, "mine\n")
    docker_case.container(spec).stop(timeout=1)
    backend.leave_note(spec, "three\n", lease())
    backend.revive(spec)
    assert docker_case.run(spec, shown) == (0, "three\n644 1000\n")
    with pytest.raises(ClaimLost):
        backend.leave_note(spec, "four\n", lease(seconds=0))
    backend.drop(spec, lease())
    backend.leave_note(spec, "five\n", lease())
    assert docker_case.remains(spec) == []


# Ends -----------------------------------------------------------------------------------


def test_kill_ends_connections_and_keeps_the_sandbox_and_its_data(docker_case: DockerCase) -> None:
    spec, password = docker_case.made()
    docker_case.run(spec, "echo mine > /data/mine")
    with docker_case.connect(spec) as connection:
        assert docker_case.backend.kill(spec, lease()) == 1
        connection.settimeout(DEADLINE)
        assert is_closed(connection)
    assert docker_case.logs_in(spec, password)
    assert docker_case.run(spec, "cat /data/mine") == (0, "mine\n")
    assert docker_case.backend.kill(docker_case.spec(), lease()) == 0


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_drop_leaves_nothing_and_nobody(docker_case: DockerCase) -> None:
    # Other tests use the engine as well, and volumes have no label.
    before = {volume.id for volume in docker_case.client.volumes.list()}
    with_volume = docker_case.client.containers.create(docker_case.server.jupyter_image)
    image = with_volume.commit("provisioning/with-volume", "local", changes="VOLUME /data/out")
    with_volume.remove()
    case = DockerCase(docker_case.engine, jupyter_image="provisioning/with-volume:local")
    spec, _ = case.made()
    (volume,) = (mount["Name"] for mount in case.container(spec).attrs["Mounts"])
    assert case.client.volumes.get(volume)
    with case.connect(spec) as connection:
        assert not case.refuses(spec)
        case.backend.drop(spec, lease())
        assert case.refuses(spec)
        connection.settimeout(5)
        with contextlib.suppress(TimeoutError):
            # With its network gone, nobody is left to tell the other side.
            assert is_closed(connection)
    assert case.remains(spec) == []
    assert {found.id for found in case.client.volumes.list()} <= before
    assert not case.backend.exists(spec)
    case.client.images.remove(image.id)
    case.close()


def test_drop_of_what_is_missing_or_half_gone_succeeds(docker_case: DockerCase) -> None:
    docker_case.backend.drop(docker_case.spec(), lease())
    spec, _ = docker_case.made()
    docker_case.container(spec).remove(force=True)
    with docker_case.foreign("guest", network=spec.object_name) as guest:
        docker_case.backend.drop(spec, lease())
        guest.reload()
        assert guest.status == "running"
    docker_case.backend.drop(spec, lease())
    assert docker_case.remains(spec) == []


def test_networks_that_two_processes_made_together_go_together(docker_case: DockerCase) -> None:
    """The engine lets several have one name, and then refuses the name as ambiguous."""
    spec, _ = docker_case.made()
    docker_case.container(spec).remove(force=True)
    [network] = docker_case.client.networks.list(names=[spec.object_name])
    labels = network.attrs["Labels"]
    for _ in range(2):
        docker_case.client.networks.create(spec.object_name, labels=labels, check_duplicate=False)
    assert not docker_case.backend.exists(spec)
    docker_case.build(spec, by=lease(token=2))
    docker_case.client.networks.create(spec.object_name, labels=labels, check_duplicate=False)
    docker_case.backend.drop(spec, lease(token=3))
    assert docker_case.remains(spec) == []


# Inventory ------------------------------------------------------------------------------


def test_the_inventory_has_what_bears_our_label_and_leads_to_its_removal(
    docker_case: DockerCase,
) -> None:
    spec, _ = docker_case.made()
    labels = {"provisioning.instance": "else", "provisioning.credentials": "77777"}
    with docker_case.foreign("t9x4_sandbox_77777", labels=labels):
        found = [
            one
            for one in docker_case.backend.inventory("t9x4_", "one")
            if one.name in (spec.object_name, "t9x4_sandbox_77777")
        ]
    assert [(one.kind, one.name) for one in found] == [
        ("container", spec.object_name),
        ("network", spec.object_name),
    ]
    with docker_case.foreign("by_hand", labels={"provisioning.instance": CODE}):
        specs = {one.name: one.spec for one in docker_case.backend.inventory("t9x4_", "one")}
        assert specs["by_hand"] is None
    orphan = specs[spec.object_name]
    assert orphan is not None
    docker_case.backend.drop(orphan, lease())
    assert docker_case.remains(spec) == []


def test_orphans_of_one_installation_are_removed_and_those_of_another_stay(
    docker_case: DockerCase, tmp_path: Path
) -> None:
    ours, theirs = (
        build_installation(
            config.load(
                {
                    "STATE_URL": f"sqlite:///{tmp_path}/{name}.db",
                    "BROKER_URL": "redis://127.0.0.1:1/0",
                    "ENCRYPTION_KEYS": generate_key().reveal(),
                    "DOCKER_URL": docker_url(docker_case.engine),
                }
            )
        )
        for name in ("ours", "theirs")
    )
    for installation in (ours, theirs):
        prepare_state(installation.database)
        assert installation.numbers.take() == 1

    def plant(number: int, code: str) -> str:
        name = f"{ours.code}_sandbox_{number}"
        labels = {
            "provisioning.instance": code,
            "provisioning.credentials": str(number),
            "provisioning.type": "jupyter",
        }
        docker_case.client.networks.create(name, labels=labels)
        docker_case.client.containers.create(images.STUB.tag, name=name, labels=labels)
        return name

    named = {plant(7, ours.code), plant(8, ours.code)}
    foreign = plant(9, theirs.code)
    report = comparison.build_report(ours)
    assert {one.object.name for one in report.orphans} == named
    assert repair(ours, report).removed == 2
    assert comparison.build_report(ours).clean
    left = {one.name for one in docker_case.client.containers.list(all=True)}
    assert foreign in left and not named & left
    assert repair(theirs, comparison.build_report(theirs)).removed == 1
    assert foreign not in {one.name for one in docker_case.client.networks.list()}


# Leases ---------------------------------------------------------------------------------


def test_a_holder_whose_claim_ran_out_changes_nothing(
    docker_case: DockerCase, shared: tuple[Spec, Secret]
) -> None:
    missing = docker_case.spec()
    with pytest.raises(ClaimLost):
        docker_case.build(missing, by=lease(seconds=-1))
    assert docker_case.remains(missing) == []
    spec, password = shared
    started = docker_case.container(spec).attrs["State"]["StartedAt"]
    for verb in (docker_case.backend.drop, docker_case.backend.kill):
        with pytest.raises(ClaimLost):
            verb(spec, lease(seconds=-1))
    with pytest.raises(ClaimLost):
        docker_case.build(spec, by=lease(seconds=-1))
    assert docker_case.container(spec).attrs["State"]["StartedAt"] == started
    assert docker_case.logs_in(spec, password)


def test_a_holder_that_was_replaced_removes_what_it_made_and_nothing_else(
    docker_case: DockerCase,
) -> None:
    alone, replaced, password = docker_case.spec(), docker_case.spec(), generate_password()
    for at in ("container", "start", "page"):
        stale = lease()

        def lose(
            step: str, percent: int, message: str, at: str = at, stale: object = stale
        ) -> None:
            if step == at:
                stale.runs_out = 0.0  # type: ignore[attr-defined]

        with pytest.raises(ClaimLost):
            docker_case.build(alone, by=stale, report=lose)
        assert docker_case.remains(alone) == [], at
    stale = lease()

    def be_replaced(step: str, percent: int, message: str) -> None:
        if step == "start":
            docker_case.build(replaced, password, by=lease(token=2))
            stale.runs_out = 0.0

    with pytest.raises(ClaimLost):
        docker_case.build(replaced, by=stale, report=be_replaced)
    assert docker_case.logs_in(replaced, password)


# Reasons --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "options", "said"),
    [
        ("exits", {}, "ended with exit code 1; its log ends: the script asked for this end"),
        ("never-ready", {"ready_seconds": 1}, "not ready within 1 s: no page"),
        ("eats-memory", {"memory_mb": 48}, "out of memory: it has 48 MB"),
        ("", {"jupyter_image": "provisioning/none:1"}, "image provisioning/none:1 is missing"),
    ],
)
def test_a_sandbox_that_does_not_become_ready_tells_why(
    other_case: OtherCase, wish: str, options: dict[str, object], said: str
) -> None:
    case = other_case(**options)
    spec, start = case.spec(), time.monotonic()
    with pytest.raises(EngineRefused, match=said):
        case.build(spec, content=script(wish))
    assert time.monotonic() - start < bar(5)
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


def test_a_sandbox_that_ends_during_an_installation_tells_why(docker_case: DockerCase) -> None:
    content = script("exits")
    content.packages = ("numpy",)
    spec = docker_case.spec()
    with pytest.raises(EngineRefused, match="exit code 1"):
        docker_case.build(spec, content=content)


# Outages --------------------------------------------------------------------------------


def test_a_hung_engine_fails_in_time_and_holds_up_no_other(
    docker_case: DockerCase, shared: tuple[Spec, Secret], tmp_path: Path
) -> None:
    address = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(address)
        silent.listen(64)
        hung = DockerServer(name="hung", address=f"unix://{address}")
        backend = DockerBackend(
            (docker_case.server, hung), HUNG_SECONDS, lambda: CODE, lambda: docker_case.certificate
        )
        lost = replace(docker_case.spec(), server="hung")
        calls = [
            lambda: backend.exists(lost),
            lambda: backend.build(lost, generate_password(), lease(), None, say_nothing),
            lambda: backend.drop(lost, lease()),
        ]

        def takes(call: object) -> float:
            start = time.monotonic()
            with pytest.raises(EngineUnavailable):
                call()  # type: ignore[operator]
            return time.monotonic() - start

        with ThreadPoolExecutor(len(calls)) as pool:
            waiting = [pool.submit(takes, call) for call in calls]
            assert backend.exists(shared[0])
            assert all(not one.done() for one in waiting)
            assert all(HUNG_SECONDS - 0.1 < one.result() < bar(HUNG_SECONDS + 1) for one in waiting)
        # The circuit is open now.
        assert takes(calls[0]) < HUNG_SECONDS / 2
        health = {one.server: one for one in backend.check()}
        assert not health["hung"].alive
        assert health["one"].alive


def test_an_engine_that_is_gone_is_unavailable(docker_case: DockerCase, tmp_path: Path) -> None:
    server = DockerServer(name="one", address=f"unix://{tmp_path}/none.sock")
    backend = DockerBackend((server,), 1, lambda: CODE, lambda: docker_case.certificate)
    for spec in (docker_case.spec(), replace(docker_case.spec(), server="gone")):
        with pytest.raises(EngineUnavailable):
            backend.exists(spec)


def test_an_engine_behind_tls_is_reached_with_our_certificate(
    other_case: OtherCase, shared: tuple[Spec, Secret], tmp_path: Path
) -> None:
    own, ours, others = (write_pair(tmp_path, name) for name in ("engine", "ours", "others"))
    socket_path = str(other_case.engine.socket)
    with tls_front(socket_path, own, clients=ours[0]) as port:
        options = {"address": f"tcp://127.0.0.1:{port}", "tls_ca": own[0]}
        case = other_case(**options, tls_cert=ours[0], tls_key=ours[1])
        assert case.backend.exists(shared[0])
        assert case.backend.in_use(shared[0]) is False
        for changed in ({"tls_cert": others[0], "tls_key": others[1]}, {"tls_ca": others[0]}):
            wrong = {**options, "tls_cert": ours[0], "tls_key": ours[1], **changed}
            with pytest.raises(EngineUnavailable):
                other_case(**wrong).backend.exists(shared[0])


# The server's options -------------------------------------------------------------------


def test_without_https_pages_are_plain(other_case: OtherCase) -> None:
    case = other_case(https=False)
    spec, password = case.made("rstudio")
    assert case.backend.describe(spec, password)["hasHttps"] is False
    assert "RStudio" in case.get(spec)[1]
    assert case.run(spec, "ls /run/provisioning") == (0, "password-hash\nuser\n")


def test_the_operators_certificate_wins(other_case: OtherCase, tmp_path: Path) -> None:
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    case = other_case(tls_certificate=str(files[0]), tls_private_key=str(files[1]))
    (health,) = case.backend.check()
    assert not health.alive
    assert "tls_certificate cannot be read" in health.message
    for hosts, said in (
        (["other.example.com"], f"tls_certificate is not for {case.server.public_host}"),
        ([case.server.public_host], "Docker "),
    ):
        mine = make_certificate(hosts)
        files[0].write_bytes(mine.certificate_pem)
        files[1].write_text(mine.private_key_pem.reveal())
        (health,) = case.backend.check()
        assert said in health.message
    spec, password = case.made()
    case.certificate = mine
    assert case.logs_in(spec, password)


def test_check_finds_the_engine_well_and_tells_what_is_not_enforced(
    docker_case: DockerCase,
) -> None:
    (health,) = docker_case.backend.check()
    assert health.alive, health.message
    assert "the disk limit is not enforced: overlay2 on" in health.message


def test_check_names_the_image_that_is_missing(other_case: OtherCase) -> None:
    (health,) = other_case(rstudio_image="provisioning/none:1").backend.check()
    assert not health.alive
    assert "docker pull provisioning/none:1" in health.message
    case = other_case(rstudio_image="provisioning/none:1", types=("jupyter",))
    (health,) = case.backend.check()
    assert health.alive
