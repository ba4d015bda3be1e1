"""The private Docker engine: apart from others, and nothing left of it."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import images
from devstack.docker import RUNTIME, DockerEngine, InUse
from devstack.docker_network import NAMESPACES
from devstack.processes import StartFailed, processes_mentioning
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.sandbox import created, published_port, run_in

TREE = Path(__file__).parents[2]
ENGINE_PARTS = {"dockerd", "containerd", "containerd-shim-runc-v2"}
SLEEP = shutil.which("sleep") or "/bin/sleep"

pytestmark = pytest.mark.skipif(
    DockerEngine.missing() or os.geteuid() != 0,
    reason="Docker is not installed, or we are not root",
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    engine = DockerEngine(tmp_path / "docker")
    yield engine
    engine.stop()


def make_sleeper(engine: DockerEngine, network: str = "none") -> Any:
    """Start a container of an image with nothing but `sleep` and the libraries it needs."""
    needed = subprocess.run(["ldd", SLEEP], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for file in (SLEEP, *re.findall(r"(/\S+) \(0x", needed)):
            tar.add(file)
    client = engine.client()
    client.api.import_image_from_data(buffer.getvalue(), repository="sleeper", tag="1")
    return client.containers.run(
        "sleeper:1", [SLEEP, "600"], detach=True, init=True, network=network
    )


def run_in_shell(line: str) -> str:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


def answers(engine: DockerEngine, timeout: float = DEADLINE) -> bool:
    try:
        with closing(engine.client(timeout=timeout)) as client:
            return bool(client.ping())
    except Exception:
        return False


def traces(engine: DockerEngine) -> list[str]:
    """What is on the machine because of the engine, besides its directory."""
    name = f"provisioning-{engine.identity}"
    parts = processes_mentioning(str(engine.runtime), ENGINE_PARTS)
    shown = {
        "processes": parts,
        "namespace": (NAMESPACES / name).exists(),
        "runtime directory": engine.runtime.exists(),
        "control groups": [*Path("/sys/fs/cgroup").glob(f"**/{name}")],
        "mounts": str(engine.directory) in Path("/proc/mounts").read_text(),
        "cable": f"link-netns {name}" in run_in_shell("ip link"),
    }
    return [trace for trace, found in shown.items() if found]


def test_serves_its_own_directory_in_a_namespace_of_its_own(engine: DockerEngine) -> None:
    engine.start()
    with closing(engine.client()) as client:
        assert client.info()["DockerRootDir"] == str(engine.data)
        assert {network.name for network in client.networks.list()} == {"none", "host"}
    assert re.fullmatch(r"10\.214\.\d+\.2", engine.public_host)
    assert RUNTIME.stat().st_mode & 0o077 == 0
    ours = os.readlink("/proc/self/ns/net")
    assert os.readlink(f"/proc/{engine.process.pid}/ns/net") != ours


def test_stop_leaves_nothing_but_the_data_and_start_finds_it(engine: DockerEngine) -> None:
    engine.start()
    address = engine.public_host
    container = make_sleeper(engine)
    assert len(traces(engine)) == 5
    engine.stop()
    assert traces(engine) == []
    engine.start()
    assert engine.public_host == address
    assert engine.client().containers.get(container.id).status == "exited"


def test_container_survives_the_kill_of_the_engine_until_the_next_start(
    engine: DockerEngine,
) -> None:
    engine.start()
    address = engine.public_host
    container = make_sleeper(engine)
    container.reload()
    process = Path(f"/proc/{container.attrs['State']['Pid']}")
    engine.kill()
    assert not answers(engine)
    assert process.exists()
    engine.start()
    assert engine.public_host == address
    again = engine.client().containers.get(container.id)
    assert again.status == "exited"
    again.start()
    again.reload()
    assert again.status == "running"


def test_stop_after_kill_ends_the_containers(engine: DockerEngine) -> None:
    engine.start()
    make_sleeper(engine)
    engine.kill()
    engine.stop()
    assert traces(engine) == []


def test_paused_engine_does_not_answer_until_resumed(engine: DockerEngine) -> None:
    engine.start()
    engine.pause()
    assert not answers(engine, timeout=1)
    engine.resume()
    assert answers(engine)


def test_stop_ends_a_paused_engine(engine: DockerEngine) -> None:
    engine.start()
    engine.pause()
    engine.stop()
    assert traces(engine) == []


def test_two_engines_do_not_disturb_each_other(engine: DockerEngine, tmp_path: Path) -> None:
    engine.start()
    container = make_sleeper(engine)
    with DockerEngine(tmp_path / "other") as other:
        assert other.public_host != engine.public_host
        make_sleeper(other)
        assert len(engine.client().containers.list()) == 1
    container.reload()
    assert container.status == "running"


def test_a_second_process_may_not_use_the_directory(engine: DockerEngine) -> None:
    engine.start()
    with pytest.raises(InUse, match="another process"):
        DockerEngine(engine.directory).start()
    assert answers(engine)


START_IN_ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
from devstack.docker import DockerEngine
from tests.devstack.test_docker import make_sleeper
engine = DockerEngine(Path(sys.argv[1]))
engine.start()
make_sleeper(engine)
print("started", flush=True)
time.sleep(600)
"""


def test_what_a_killed_parent_leaves_is_cleared_away_by_any_engine(
    engine: DockerEngine, tmp_path: Path
) -> None:
    left = DockerEngine(tmp_path / "left")
    command = [sys.executable, "-c", START_IN_ANOTHER_PROCESS, str(left.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TREE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"started\n"
        parent.send_signal(signal.SIGKILL)
    assert "processes" in traces(left)
    engine.start()
    assert traces(left) == []


def test_an_engine_that_cannot_start_says_why(engine: DockerEngine) -> None:
    engine.network.engine_options = ("--no-such-option",)
    with pytest.raises(StartFailed, match="no-such-option"):
        engine.start()


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"


@pytest.fixture
def stub(docker_engine: DockerEngine) -> Iterator[Any]:
    """The container of a sandbox, running."""
    with created(docker_engine, images.STUB, 8888) as container:
        container.start()
        yield container


def test_published_port_is_reached_at_the_namespace(docker_engine: DockerEngine, stub: Any) -> None:
    url = f"http://{docker_engine.public_host}:{published_port(stub)}"

    def page() -> bool:
        try:
            return requests.get(url, timeout=DEADLINE).ok
        except requests.ConnectionError:
            return False

    wait_until(page, what="the stub's page")


def test_sandbox_reaches_neither_the_engines_host_nor_the_machine(
    docker_engine: DockerEngine, stub: Any
) -> None:
    machine = docker_engine.public_host.removesuffix("2") + "1"
    with socket.create_server((machine, 0)) as listener:
        port = listener.getsockname()[1]
        inside = docker_engine.network.inside([sys.executable, "-c", CONNECT, machine, str(port)])
        subprocess.run(inside, check=True)
        for host, reached in ((machine, port), (docker_engine.public_host, published_port(stub))):
            status, output = run_in(stub, "python3", "-c", CONNECT, host, str(reached))
            assert status == 1
            assert "timed out" in output


RUN_ON_HOST = """
import json, subprocess, sys
from pathlib import Path
from devstack.docker import DockerEngine
from devstack.processes import StartFailed
from tests.devstack.test_docker import make_sleeper

def look():
    return {
        "rules": [subprocess.check_output(["iptables", "-t", table, "-S"], text=True)
                  for table in ("filter", "nat")],
        "links": subprocess.check_output(["ip", "-br", "link"], text=True),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }

def make_sandbox(engine):
    from docker.types import IPAMConfig, IPAMPool
    options = {"com.docker.network.bridge.name": "pv20000"}
    ipam = IPAMConfig(pool_configs=[IPAMPool(subnet="10.201.0.0/29")])
    engine.client().networks.create("sandbox", options=options, ipam=ipam)
    make_sleeper(engine, "sandbox")

subprocess.check_call(["iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"])
before = look()
engine = DockerEngine(Path(sys.argv[1]), on_host=True)
engine.start()
make_sandbox(engine)
during = look()
try:
    DockerEngine(Path(sys.argv[2]), on_host=True).start()
    second = "started"
except StartFailed as failure:
    second = str(failure)
engine.kill()
engine.stop()
print(json.dumps({"before": before, "during": during, "after": look(), "second": second}))
"""


@pytest.fixture
def host() -> Iterator[str]:
    """A network namespace that stands in for a machine."""
    name = f"provisioning-host-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_engine_on_the_host_leaves_the_hosts_network_as_it_was(host: str, tmp_path: Path) -> None:
    inside = ["nsenter", f"--net={NAMESPACES / host}", sys.executable, "-c", RUN_ON_HOST]
    directories = [str(tmp_path / "docker"), str(tmp_path / "second")]
    done = subprocess.run([*inside, *directories], cwd=TREE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "-A INPUT -i pv+ -m conntrack --ctstate NEW -j DROP" in seen["during"]["rules"][0]
    assert "pv20000" in seen["during"]["links"]
    assert seen["during"]["forwarding"] == "1\n"
    assert seen["after"] == seen["before"]
    assert "another Docker engine runs" in seen["second"]
