"""A sandbox as the service makes it: limits, files and access put in before the start."""

import hashlib
import io
import itertools
import secrets
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from devstack.docker import DockerEngine
from devstack.images import Image
from tests.support.deadlines import LONG_DEADLINE, wait_until

USER = "jupy_70_4"
_MARK = "=end="
_numbers = itertools.count(1)
DIRECTORIES = ("in", "in/tables", "in/files", "in/user", "out", "out/tables", "out/files")


def run_in(container: Any, *command: str, user: str = "") -> tuple[int, str]:
    """Run a command in a container; status and output.

    An engine may lose all that a short one wrote (https://github.com/moby/moby/issues/27289): what
    comes back without our mark is run again.
    """
    marked = ["sh", "-c", '"$@"; status=$?; printf "%s" "$0"; exit $status', _MARK, *command]
    for _ in range(5):
        done = container.exec_run(marked, user=user)
        output: str = done.output.decode(errors="replace")
        # What goes to the standard error may arrive after it.
        if _MARK in output:
            return done.exit_code, output.replace(_MARK, "")
    raise AssertionError(f"the engine lost the output of {command}: {output!r}")


@dataclass
class Sandbox:
    """A running sandbox and what its owner knows."""

    container: Any
    url: str
    password: str
    certificate: Path
    #: What must not be found anywhere but in the container's files.
    secrets: tuple[str, ...]

    def browser(self) -> requests.Session:
        """A browser of its own that trusts the sandbox's certificate."""
        session = requests.Session()
        # The environment may name other certificates, and they would be taken.
        session.trust_env = False
        session.verify = str(self.certificate)
        return session

    def tls(self) -> ssl.SSLContext:
        """What a client needs to trust the sandbox's certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in the container as its user; status and output."""
        return run_in(self.container, *command)

    def is_ready(self) -> bool:
        """Whether the page answers."""
        try:
            return self.browser().get(self.url, timeout=5).ok
        except requests.exceptions.SSLError:
            raise
        except requests.ConnectionError:
            self.container.reload()
            assert self.container.status != "exited", self.container.logs().decode()
            return False


@contextmanager
def running(
    engine: DockerEngine,
    image: Image,
    port: int,
    files: dict[str, bytes],
    directory: Path,
    *,
    https: bool = True,
) -> Iterator[Sandbox]:
    """A sandbox of the image with `files` below /data, ready to be used."""
    with started(engine, image, port, files, directory, https=https) as sandbox:
        wait_until(sandbox.is_ready, timeout=LONG_DEADLINE, what="the page of the sandbox")
        yield sandbox


@contextmanager
def started(
    engine: DockerEngine,
    image: Image,
    port: int,
    files: dict[str, bytes],
    directory: Path,
    *,
    https: bool = True,
) -> Iterator[Sandbox]:
    """A sandbox whose container has just been started."""
    with created(engine, image, port) as container:
        password, salt = secrets.token_urlsafe(16), secrets.token_hex(8)
        digest = hashlib.sha256((password + salt).encode()).hexdigest()
        access = {"user": USER.encode(), "password-hash": f"sha256:{salt}:{digest}\n".encode()}
        if https:
            access |= make_certificate(directory, engine.public_host)
        container.put_archive("/", _archive(access, files))
        container.start()
        scheme = "https" if https else "http"
        url = f"{scheme}://{engine.public_host}:{published_port(container)}"
        hidden = (password, salt, digest)
        yield Sandbox(container, url, password, directory / "tls.crt", hidden)


@contextmanager
def created(engine: DockerEngine, image: Image, port: int) -> Iterator[Any]:
    """A container of the image with the limits of a sandbox, in a network of its own."""
    client = engine.client()
    number = next(_numbers)
    options = {"com.docker.network.bridge.name": f"pv{number}"}
    network = client.networks.create(f"sandbox-{number}", options=options)
    try:
        container = client.containers.create(
            image.tag,
            user="1000:1000",
            network=network.name,
            ports={f"{port}/tcp": None},
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit="512m",
            memswap_limit="512m",
            nano_cpus=10**9,
            pids_limit=256,
        )
        try:
            yield container
        finally:
            container.remove(force=True)
    finally:
        network.remove()
        client.close()


def published_port(container: Any) -> int:
    """The port at which a started container is reached."""
    container.reload()
    (binding, *_) = next(bindings for bindings in container.ports.values() if bindings)
    return int(binding["HostPort"])


def make_certificate(directory: Path, host: str) -> dict[str, bytes]:
    """A self-signed certificate for the address, by file name."""
    names = {"crt": directory / "tls.crt", "key": directory / "tls.key"}
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]
        + ["ec_paramgen_curve:prime256v1", "-subj", f"/CN={host}", "-days", "2"]
        + ["-addext", f"subjectAltName=IP:{host}"]
        + ["-out", str(names["crt"]), "-keyout", str(names["key"])],
        check=True,
        capture_output=True,
    )
    return {file.name: file.read_bytes() for file in names.values()}


def _archive(access: dict[str, bytes], files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "run/provisioning", mode=0o700)
        for name, content in access.items():
            _add(tar, f"run/provisioning/{name}", content, mode=0o400)
        for name in DIRECTORIES:
            _add(tar, f"data/{name}", mode=0o755)
        for name, content in files.items():
            _add(tar, f"data/{name}", content, mode=0o644)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes | None = None, *, mode: int) -> None:
    """Add a file, or without content a directory, of the sandbox's user."""
    entry = tarfile.TarInfo(name)
    entry.uid = entry.gid = 1000
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content or b""))
