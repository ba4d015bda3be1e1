"""Sandboxes on a private Docker engine, and what the tests need to know of them."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from devstack import images
from devstack.docker import DockerEngine
from provisioning.backends.base import Content, Files, Owner, ReportProgress, Spec
from provisioning.backends.docker import Certificate, DockerBackend
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.configuration.servers import DockerServer
from provisioning.state.claims import Lease
from tests.backends.case import lease
from tests.support.certificates import make_certificate
from tests.support.deadlines import DEADLINE
from tests.support.sandbox import run_in

CODE = "t9x4"
#: Different for each credential of a run, on whichever server.
_numbers = count(1)


def say_nothing(step: str, percent: int, message: str) -> None:
    """Take reports of progress."""


class Loading:
    """Content that does what a test wants."""

    def __init__(
        self, load: Callable[[Files], None] = lambda files: None, packages: tuple[str, ...] = ()
    ) -> None:
        self._load = load
        self.packages = packages

    def load(self, files: Files, report: ReportProgress) -> None:
        self._load(files)


class DockerCase:
    """One backend with one server, on a real engine."""

    def __init__(self, engine: DockerEngine, **options: Any) -> None:
        self.engine = engine
        self.client = engine.client()
        values: dict[str, Any] = {
            "name": "one",
            "address": engine.url,
            "public_host": engine.public_host,
            "jupyter_image": images.STUB.tag,
            "rstudio_image": images.STUB.tag,
            "memory_mb": 256,
        }
        self.server = DockerServer(**{**values, **options})
        self.certificate = make_certificate([self.server.public_host])
        self.backend = DockerBackend(
            (self.server,), timeout=DEADLINE, code=lambda: CODE, certificate=self._certificate
        )

    def _certificate(self) -> Certificate:
        return self.certificate

    def close(self) -> None:
        self.backend.close()
        self.client.close()

    def spec(self, type_: str = "jupyter") -> Spec:
        number = next(_numbers)
        owner = Owner("70", str(number), None)
        spec = self.backend.plan("t9x4_", owner, type_, number, "one")
        return replace(spec, port=self.server.port_range[number])

    def made(self, type_: str = "jupyter") -> tuple[Spec, Secret]:
        spec, password = self.spec(type_), generate_password()
        self.build(spec, password)
        return spec, password

    def build(
        self,
        spec: Spec,
        password: Secret | None = None,
        content: Content | None = None,
        *,
        by: Lease | None = None,
        report: ReportProgress = say_nothing,
    ) -> None:
        password = password or generate_password()
        self.backend.build(spec, password, by or lease(), content, report)

    # As callers see it ------------------------------------------------------------------

    def get(
        self, spec: Spec, path: str = "/", login: tuple[str, Secret] | None = None
    ) -> tuple[int, str]:
        """Return the status and text of a page, served with our certificate."""
        address = (self.server.public_host, spec.port)
        connection = http.client.HTTPConnection(*address, timeout=DEADLINE)
        if self.server.https:
            context = ssl.create_default_context(cadata=self.certificate.certificate_pem.decode())
            connection = http.client.HTTPSConnection(*address, timeout=DEADLINE, context=context)
        headers = {}
        if login:
            pair = f"{login[0]}:{login[1].reveal()}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        with closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def logs_in(self, spec: Spec, password: Secret) -> bool:
        status, _ = self.get(spec, "/login", (spec.user_name, password))
        assert status in (200, 401)
        return status == 200

    def refuses(self, spec: Spec) -> bool:
        """Return whether nothing answers at the sandbox's port."""
        try:
            self.connect(spec).close()
        except OSError:
            return True
        return False

    def connect(self, spec: Spec) -> socket.socket:
        return socket.create_connection((self.server.public_host, spec.port or 0), timeout=DEADLINE)

    # As the engine sees it --------------------------------------------------------------

    def container(self, spec: Spec) -> Any:
        return self.client.containers.get(spec.object_name)

    def run(self, spec: Spec, command: str) -> tuple[int, str]:
        """Run a command in the sandbox, as its user."""
        return run_in(self.container(spec), "sh", "-c", command)

    def remains(self, spec: Spec) -> list[str]:
        """Return what the engine still has under the sandbox's name."""
        containers = self.client.containers.list(all=True, filters={"name": spec.object_name})
        networks = self.client.networks.list(names=[spec.object_name])
        return [
            *(f"container {c.name}" for c in containers if c.name == spec.object_name),
            *(f"network {n.name}" for n in networks if n.name == spec.object_name),
        ]

    def everything_shown(self, spec: Spec) -> str:
        """Return all that the engine shows of a sandbox without going into it."""
        container = self.container(spec)
        network = self.client.api.inspect_network(spec.object_name)
        shown = [container.attrs, network, container.top(ps_args="auxeww")]
        logs: bytes = container.logs()
        return json.dumps(shown) + logs.decode()

    @contextmanager
    def foreign(self, name: str, **options: Any) -> Iterator[Any]:
        """Run a container of somebody else."""
        container = self.client.containers.run(
            images.STUB.tag, ["sleep", "60"], name=name, detach=True, **options
        )
        try:
            yield container
        finally:
            container.remove(force=True)
