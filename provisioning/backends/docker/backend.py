"""What is done on a Docker engine for a credential: a sandbox in a container of its own.

The engine has no lock of a credential. Instead everything is made under the credential's own name
and removed by the id that the engine gave it. So a replaced holder removes nothing that its
successor made, and what it still makes has a name that the successor looks for.
"""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import Any

from provisioning.backends.base import (
    Content,
    EngineBusy,
    EngineRefused,
    Health,
    Owner,
    Placement,
    PortTaken,
    ReportProgress,
    ServerObject,
    Spec,
)
from provisioning.backends.docker.archive import CONTENT_ROOT, Archive
from provisioning.backends.docker.build import Build, certificate_files
from provisioning.backends.docker.certificate import Certificate, read_certificate
from provisioning.backends.docker.check import check_engine
from provisioning.backends.docker.connections import TABLES_COMMAND, count_connections
from provisioning.backends.docker.engine import Container, Engine
from provisioning.backends.docker.images import SANDBOX_TYPES, SECRETS_DIRECTORY
from provisioning.backends.docker.ownership import OwnedObjects, take_inventory
from provisioning.backends.docker.readiness import wait_until_ready
from provisioning.backends.naming import USER_NAME_LIMIT, build_name
from provisioning.backends.servers.fleet import Fleet
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import DockerServer
from provisioning.state.claims import Lease
from provisioning.state.failpoints import failpoint

#: A container's name is its network's too, and Docker's limit for that is 63 as for hosts.
OBJECT_NAME_LIMIT = 63
#: Seconds in which a port refuses a connection, or counts as unreachable.
PORT_SECONDS = 0.5
#: The file that announces the sandbox's end to its user.
NOTE = "EXPIRES.txt"
#: Tries of a command that always writes something. An engine may lose all output of a short one
#: (https://github.com/moby/moby/issues/27289), and then a used sandbox would look unused.
OUTPUT_TRIES = 3
ACTIVITY_COMMAND = f"{TABLES_COMMAND}; command -v sandbox-activity > /dev/null && sandbox-activity"


class DockerBackend:
    """Sandboxes on Docker engines (contract section 8)."""

    name = "docker"
    ends_passwords = False
    parts = frozenset({"container", "network"})

    def __init__(
        self,
        servers: tuple[DockerServer, ...],
        timeout: float,
        code: Callable[[], str],
        certificate: Callable[[], Certificate],
    ) -> None:
        """Take the installation's ``code`` and its ``certificate`` when they are needed."""
        self._engines = Fleet(Engine(config, timeout) for config in servers)
        self._code = code
        self._make_certificate = certificate

    def close(self) -> None:
        self._engines.close()

    # Pure ---------------------------------------------------------------------------

    def placements(self, type_: str) -> list[Placement]:
        return self._engines.placements(type_)

    def shares_login(self, type_: str) -> bool:
        return False

    def ports(self, server: str) -> range:
        return self._engines[server].config.port_range

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        """Choose the names; the port is the caller's to choose, out of ``ports``."""
        user = build_name(
            prefix,
            SANDBOX_TYPES[type_].user,
            owner.project_id,
            owner.token_id,
            limit=USER_NAME_LIMIT,
        )
        name = build_name(prefix, "sandbox", str(credentials_id), limit=OBJECT_NAME_LIMIT)
        return Spec(credentials_id, type_, server, user, name)

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        config = self._engines[spec.server].config
        return {
            "hostname": config.public_host,
            "port": spec.port,
            "user": spec.user_name,
            "password": password.reveal(),
            "hasHttps": config.https,
        }

    # Create -------------------------------------------------------------------------

    def create(self, spec: Spec, password: Secret, lease: Lease) -> None:
        self.build(spec, password, lease, None, _ignore_progress)

    def build(
        self,
        spec: Spec,
        password: Secret,
        lease: Lease,
        content: Content | None,
        report: ReportProgress,
    ) -> None:
        engine = self._engines[spec.server]
        certificate = self._certificate(engine.config)
        Build(engine, spec, self._code(), certificate, lease, report).run(password, content)

    def revive(self, spec: Spec) -> None:
        """Start a stopped sandbox again, with the certificate of today."""
        engine = self._engines[spec.server]
        container = self._owned(engine, spec).container()
        if container is None:
            raise EngineRefused(f"server {spec.server}: container {spec.object_name} is gone")
        if container.status == "running":
            return
        if container.status == "paused":
            engine.unpause(container.id)
            return
        certificate = self._renew_certificate(engine, container)
        try:
            engine.start(container.id)
        except PortTaken as problem:
            # Here the sandbox is still there.
            raise EngineRefused(*problem.args) from None
        wait_until_ready(engine, spec, certificate)

    def _renew_certificate(self, engine: Engine, container: Container) -> bytes | None:
        """Give the next start the certificate of today, and return it."""
        certificate = self._certificate(engine.config)
        if certificate is None:
            return None
        archive = Archive(lambda chunks: engine.put(container.id, chunks), lambda: None)
        archive.put_secrets(SECRETS_DIRECTORY, certificate_files(certificate))
        archive.flush()
        return certificate.certificate_pem

    def _certificate(self, config: DockerServer) -> Certificate | None:
        if not config.https:
            return None
        if not config.tls_certificate:
            return self._make_certificate()
        try:
            return read_certificate(config.tls_certificate, config.tls_private_key)
        except OSError as problem:
            raise EngineRefused(f"server {config.name}: {problem}") from None

    # Look ---------------------------------------------------------------------------

    def exists(self, spec: Spec) -> bool:
        """Return whether the sandbox is there, running or stopped but intact."""
        owned = self._owned(self._engines[spec.server], spec)
        container = owned.container()
        if container is None or container.status in ("created", "removing", "dead"):
            return False
        # A running container holds its network; a stopped one does not start without it.
        return container.status == "running" or bool(owned.networks())

    def in_use(self, spec: Spec) -> bool:
        tables = self._output(spec, TABLES_COMMAND)
        return tables is not None and count_connections(tables, SANDBOX_TYPES[spec.type].port) > 0

    def activity(self, spec: Spec) -> dict[str, Any] | None:
        output = self._output(spec, ACTIVITY_COMMAND)
        if output is None:
            return None
        return {
            "connections": count_connections(output, SANDBOX_TYPES[spec.type].port),
            **read_activity(output),
        }

    def leave_note(self, spec: Spec, text: str, lease: Lease) -> None:
        engine = self._engines[spec.server]
        container = self._owned(engine, spec).container()
        if container is None:
            return
        content = text.encode()
        archive = Archive(lambda chunks: engine.put(container.id, chunks), lease.check)
        archive.put(str(CONTENT_ROOT / NOTE), BytesIO(content), len(content))
        archive.flush()

    def check(self) -> list[Health]:
        return [check_engine(engine) for engine in self._engines]

    def servers(self) -> list[str]:
        return self._engines.names()

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return take_inventory(self._engines[server], self._code())

    def prolong(self, spec: Spec) -> None:
        """Do nothing: a sandbox's password ends with the sandbox."""

    def _output(self, spec: Spec, command: str) -> str | None:
        """Return what a command in the sandbox writes (something); None when it does not run."""
        engine = self._engines[spec.server]
        container = self._owned(engine, spec).container()
        if container is None or container.status != "running":
            return None
        output: bytes | None = b""
        for _ in range(OUTPUT_TRIES):
            output = engine.output_of(container.id, ["sh", "-c", command])
            if output is None or output:
                break
        return None if output is None else output.decode(errors="replace")

    # End ----------------------------------------------------------------------------

    def kill(self, spec: Spec, lease: Lease) -> int:
        """Restart the container, which ends all sessions and what they run; data stays."""
        engine = self._engines[spec.server]
        lease.check()
        container = self._owned(engine, spec).container()
        tables = self._output(spec, TABLES_COMMAND)
        if container is None or tables is None:
            return 0
        lease.check()
        certificate = self._renew_certificate(engine, container)
        lease.check()
        engine.restart(container.id)
        wait_until_ready(engine, spec, certificate, check=lease.check)
        return count_connections(tables, SANDBOX_TYPES[spec.type].port)

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        engine = self._engines[spec.server]
        owned = self._owned(engine, spec)
        lease.check()
        was_there = owned.remove_container(lease.check)
        access_ended()
        failpoint("drop.container")
        owned.remove_networks(lease.check)
        failpoint("drop.network")
        owned.require_gone()
        if was_there and spec.port is not None:
            _require_refused(engine.config, spec.port)
        failpoint("drop.checked")

    def _owned(self, engine: Engine, spec: Spec) -> OwnedObjects:
        return OwnedObjects(engine, spec, self._code())


def _ignore_progress(step: str, percent: int, message: str) -> None:
    """Drop the report: nobody waits for it."""


def _require_refused(config: DockerServer, port: int) -> None:
    """Raise ``EngineBusy`` while the port still takes connections (contract 8.4.2)."""
    address = (config.probe_host or config.public_host, port)
    with suppress(OSError), socket.create_connection(address, PORT_SECONDS):
        raise EngineBusy(f"server {config.name}: port {port} still answers")


def read_activity(output: str) -> dict[str, Any]:
    """Return the activity that the image reports in the last line, as far as it is plausible.

    The sandbox's user can make it report anything.
    """
    try:
        said = json.loads(output.strip().rpartition("\n")[2])
        kernels = said["busyKernels"]
        last = said["lastActivity"]
        if last is not None:
            datetime.fromisoformat(last)
    except (KeyError, TypeError, ValueError, RecursionError):
        return {"busyKernels": None, "lastActivity": None}
    if type(kernels) is not int or not 0 <= kernels < 10_000:
        kernels = None
    return {"busyKernels": kernels, "lastActivity": last}
