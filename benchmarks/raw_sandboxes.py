"""The reference for sandboxes: the same calls of a Docker engine, from a plain script."""

import hashlib
import secrets
import ssl
import time
from http.client import HTTPException, HTTPSConnection
from itertools import count
from typing import Any

import docker
from docker.types import IPAMConfig, IPAMPool

from devstack import images
from devstack.docker import DockerEngine
from provisioning.backends.docker.archive import USER_ID, Archive
from provisioning.backends.docker.certificate import issue_certificate, make_authority
from provisioning.backends.docker.images import SANDBOX_TYPES, SECRETS_DIRECTORY

KIND = SANDBOX_TYPES["jupyter"]
#: Above the ports of the service.
FIRST_PORT = 28000
#: Seconds between two looks at the page, as the service has them.
PAGE_PAUSE = 0.02
_numbers = count()


class RawSandboxes:
    """Makes and drops containers like the service's, over one client of Docker's library.

    It keeps no state, so it looks for nothing that was there before, and checks nothing after.
    """

    def __init__(self, engine: DockerEngine) -> None:
        self._host = engine.public_host
        self._client: Any = docker.APIClient(engine.url, version="auto", timeout=60)
        self._certificate = issue_certificate(make_authority(), [self._host])
        self._trusting = ssl._create_unverified_context()

    def close(self) -> None:
        self._client.close()

    def create(self) -> str:
        """Make a sandbox, wait for its page, and return its name."""
        number = next(_numbers) % 1000
        name, port = f"raw-{number}", FIRST_PORT + number
        subnet = f"10.250.{number // 32}.{number % 32 * 8}/29"
        network = self._client.create_network(
            name,
            driver="bridge",
            options={"com.docker.network.bridge.name": f"pv{port}"},
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
            check_duplicate=True,
        )["Id"]
        container = self._client.create_container(
            images.STUB.tag,
            name=name,
            user=f"{USER_ID}:{USER_ID}",
            ports=[KIND.port],
            host_config=self._client.create_host_config(
                network_mode=network,
                port_bindings={KIND.port: port},
                cpu_period=100_000,
                cpu_quota=200_000,
                mem_limit="128m",
                memswap_limit="128m",
                pids_limit=512,
                restart_policy={"Name": "always"},
                init=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            ),
        )["Id"]
        archive = Archive(
            lambda chunks: self._client.put_archive(container, "/", iter(chunks)), lambda: None
        )
        archive.put_secrets(SECRETS_DIRECTORY, self._files())
        archive.flush()
        self._client.start(container)
        while not self._has_page(port):
            time.sleep(PAGE_PAUSE)
        return name

    def drop(self, name: str) -> None:
        self._client.remove_container(name, force=True, v=True)
        self._client.remove_network(name)

    def drop_all(self) -> None:
        """Remove every container and network, also those that others made."""
        for container in self._client.containers(all=True):
            self._client.remove_container(container["Id"], force=True, v=True)
        self._client.prune_networks()

    def _files(self) -> dict[str, bytes]:
        salt, password = secrets.token_hex(8), secrets.token_hex(16)
        digest = hashlib.sha256(f"{password}{salt}".encode()).hexdigest()
        return {
            "user": b"raw",
            "password-hash": f"sha256:{salt}:{digest}\n".encode(),
            "tls.crt": self._certificate.certificate_pem,
            "tls.key": self._certificate.private_key_pem.reveal().encode(),
        }

    def _has_page(self, port: int) -> bool:
        connection = HTTPSConnection(self._host, port, timeout=1, context=self._trusting)
        try:
            connection.request("GET", "/")
            return KIND.word.encode() in connection.getresponse().read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
