"""Makes one sandbox, step by step: network, container, files, packages, page.

A half-made sandbox is removed and made again, never finished. Docker can change little of a
started container, and its content would have to be compared.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from provisioning.backends.base import (
    Content,
    ContentRefused,
    EngineBusy,
    EngineError,
    EngineRefused,
    NameInUse,
    PortTaken,
    ReportProgress,
    Spec,
)
from provisioning.backends.docker.archive import USER_ID, Archive
from provisioning.backends.docker.certificate import Certificate
from provisioning.backends.docker.engine import Engine, NameTaken, NoQuota
from provisioning.backends.docker.images import SANDBOX_TYPES, SECRETS_DIRECTORY
from provisioning.backends.docker.ownership import OwnedObjects
from provisioning.backends.docker.readiness import require_running, wait_until_ready
from provisioning.configuration.secrets import Secret
from provisioning.state.claims import ClaimLost, Lease
from provisioning.state.failpoints import failpoint

#: Seconds one package may take, and the pause between two looks at it.
PACKAGE_SECONDS = 300.0
PACKAGE_PAUSE = 0.05
#: Exit codes above this are those of processes that a signal ended.
SIGNALLED = 128
#: Seconds in which the engine notices that a container has ended.
END_SECONDS = 2.0
#: The main process's output is the container's log, where an operator finds this too.
INSTALL_COMMAND = ["sh", "-c", 'exec install-package "$1" > /proc/1/fd/1 2>&1', "sh"]
LOG_OPTIONS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}}
CPU_PERIOD = 100_000
#: Percent of the whole job at the start of a step; content is loaded between 10 and 70.
NETWORK, CONTAINER, START, PACKAGES, PAGE = 2, 5, 72, 76, 90


class Build:
    """The making of one sandbox. ``code`` is the installation's."""

    def __init__(
        self,
        engine: Engine,
        spec: Spec,
        code: str,
        certificate: Certificate | None,
        lease: Lease,
        report: ReportProgress,
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._owned = OwnedObjects(engine, spec, code)
        self._certificate = certificate
        self._lease = lease
        self._report = report
        #: What this very build made; names may be a successor's by now, these are not.
        self._network_id = ""
        self._container_id = ""
        #: What must not get out with the container's log.
        self._secrets: list[str] = []

    def run(self, password: Secret, content: Content | None) -> None:
        """Make the sandbox and return when its page answers."""
        try:
            self._make_network()
            failpoint("create.network")
            self._make_container()
            failpoint("create.container")
            self._fill(password, content)
            failpoint("create.files")
            self._start()
            failpoint("create.started")
            self._install(content.packages if content else ())
            failpoint("create.packages")
            self._wait()
            failpoint("create.ready")
        except ClaimLost:
            # A successor starts clean and never takes over what this build has made.
            with suppress(EngineError):
                self._remove_made()
            raise
        except (PortTaken, NameInUse):
            self._remove_made()
            raise

    # Steps ------------------------------------------------------------------------------

    def _make_network(self) -> None:
        self._report("network", NETWORK, "Preparing the network")
        check, port = self._lease.check, self._port
        self._owned.remove_container(check)
        self._owned.remove_networks(check)

        def make() -> str:
            return self._engine.create_network(
                self._spec.object_name,
                self._owned.labels,
                # The host's firewall knows sandboxes by the first letters.
                bridge=f"pv{port}",
                subnet=self._engine.config.network_of(port),
            )

        self._network_id = self._make_named(make, lambda: self._owned.remove_networks(check))

    def _make_container(self) -> None:
        self._report("container", CONTAINER, "Creating the container")
        self._container_id = self._make_named(
            self._create_container, lambda: self._owned.remove_container(self._lease.check)
        )

    def _create_container(self) -> str:
        config = self._engine.config
        image = config.image(self._spec.type)
        if config.disk_gb and self._engine.has_quotas:
            try:
                return self._engine.create_container(image, self._options(), self._limits(True))
            except NoQuota:
                self._engine.has_quotas = False
        return self._engine.create_container(image, self._options(), self._limits(False))

    def _options(self) -> dict[str, object]:
        return {
            "name": self._spec.object_name,
            "hostname": f"{self._spec.type}-{self._spec.credentials_id}",
            "labels": self._owned.labels,
            "user": f"{USER_ID}:{USER_ID}",
            "ports": [SANDBOX_TYPES[self._spec.type].port],
        }

    def _limits(self, quota: bool) -> dict[str, object]:
        """Return the sandbox's limits and isolation.

        The engine starts it again whenever it ends, and after its own restart, so sandboxes
        survive a crash of either. ``unless-stopped`` would not work: after a crash the engine
        takes what still runs for stopped by hand. A sandbox that cannot run is not restarted
        forever: its creation notices it between two starts, and removes it.
        """
        config = self._engine.config
        memory = f"{config.memory_mb}m"
        return {
            "network_mode": self._network_id,
            "port_bindings": {SANDBOX_TYPES[self._spec.type].port: (config.bind, self._port)},
            # Unlike `nano_cpus` a quota may exceed what the host has.
            "cpu_period": CPU_PERIOD,
            "cpu_quota": int(config.cpus * CPU_PERIOD),
            "mem_limit": memory,
            "memswap_limit": memory,
            "pids_limit": config.pids,
            "restart_policy": {"Name": "always"},
            "init": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "log_config": LOG_OPTIONS,
            "storage_opt": {"size": f"{config.disk_gb}G"} if quota else None,
        }

    def _fill(self, password: Secret, content: Content | None) -> None:
        archive = Archive(
            lambda chunks: self._engine.put(self._container_id, chunks), self._lease.check
        )
        archive.put_secrets(SECRETS_DIRECTORY, self._secret_files(password))
        if content is not None:
            content.load(archive, self._report)
        archive.flush()

    def _secret_files(self, password: Secret) -> dict[str, bytes]:
        salt = secrets.token_hex(8)
        digest = hashlib.sha256(f"{password.reveal()}{salt}".encode()).hexdigest()
        self._secrets = [password.reveal(), digest, salt]
        files = {
            "user": self._spec.user_name.encode(),
            "password-hash": f"sha256:{salt}:{digest}\n".encode(),
        }
        if self._certificate is not None:
            key = self._certificate.private_key_pem.reveal()
            self._secrets += [line for line in key.splitlines() if line[:1] not in ("", "-")]
            files |= certificate_files(self._certificate)
        return files

    def _start(self) -> None:
        self._report("start", START, "Starting")
        self._lease.check()
        self._engine.start(self._container_id)

    def _install(self, packages: tuple[str, ...]) -> None:
        for number, package in enumerate(packages):
            percent = PACKAGES + (PAGE - PACKAGES) * number // len(packages)
            self._report("packages", percent, f"Installing package {package}")
            self._lease.check()
            if self._exit_code([*INSTALL_COMMAND, package]) != 0:
                raise ContentRefused(f"Failed to install package: {package}")

    def _exit_code(self, command: list[str]) -> int | None:
        """Run a command to its end; None when it takes too long."""
        end = time.monotonic() + PACKAGE_SECONDS
        try:
            running = self._engine.start_command(self._container_id, command)
            while (code := self._engine.exit_code(running)) is None and time.monotonic() < end:
                self._lease.check()
                time.sleep(PACKAGE_PAUSE)
        except (EngineRefused, EngineBusy):
            # The usual cause is that the container has ended. Then its own reason says more.
            self._await_end()
            raise
        if code is not None and code > SIGNALLED:
            # Perhaps with all of the container.
            self._await_end()
        return code

    def _await_end(self) -> None:
        """Raise why the container has ended, if it has: the engine notices a moment later."""
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end:
            self._require_running()
            time.sleep(PACKAGE_PAUSE)

    def _require_running(self) -> None:
        require_running(self._engine, self._spec, self._secrets)

    def _wait(self) -> None:
        self._report("page", PAGE, f"Waiting for {SANDBOX_TYPES[self._spec.type].word}")
        wait_until_ready(
            self._engine,
            self._spec,
            self._certificate.certificate_pem if self._certificate else None,
            check=self._lease.check,
            secrets=self._secrets,
        )

    # Names ------------------------------------------------------------------------------

    @property
    def _port(self) -> int:
        if self._spec.port is None:
            raise EngineRefused(f"server {self._spec.server}: {self._spec.object_name} has no port")
        return self._spec.port

    def _make_named(self, make: Callable[[], str], clear: Callable[[], object]) -> str:
        """Make something under the sandbox's name; a stale holder may just have done so too."""
        self._lease.check()
        try:
            return make()
        except NameTaken:
            clear()
        self._lease.check()
        try:
            return make()
        except NameTaken as problem:
            # Ours was removed, so this one is not ours.
            raise NameInUse(*problem.args) from None

    def _remove_made(self) -> None:
        if self._container_id:
            self._engine.remove_container(self._container_id)
        if self._network_id:
            for network in self._engine.find_networks(self._network_id):
                self._engine.remove_network(network)


def certificate_files(certificate: Certificate) -> dict[str, bytes]:
    """Return what an image serves TLS with, by file name."""
    return {
        "tls.crt": certificate.certificate_pem,
        "tls.key": certificate.private_key_pem.reveal().encode(),
    }
