"""Calls of one Docker engine: their deadlines, its circuit, its errors in our words.

Each call has a client of its own, which takes 0.1 ms to make: threads share nothing, so one
slow call holds up no other.
"""

import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any

import docker
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool
from requests.exceptions import RequestException

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    PortTaken,
)
from provisioning.backends.connections.circuit_breaker import CircuitBreaker
from provisioning.configuration.servers import DockerServer

#: Making and removing wait in the engine's own queue, so they get more time than a read. Each
#: verb reads first, and so notices a hung engine.
CHANGE_SECONDS = 30.0
#: Longest silence of the engine while it takes in files.
STREAM_SECONDS = 60.0
#: Of the API, for the one call that is the same in all versions.
OLDEST_VERSION = "1.24"
#: Bytes of a command's output that are read at most.
OUTPUT_LIMIT = 1 << 20
#: What the engine says when a port, or the network that belongs to it, is another's.
_PORT_TAKEN = (
    "port is already allocated",
    "address already in use",
    "pool overlaps",
    "conflicts with network",
)
#: What it says of conditions that pass by themselves.
_LATER = ("context deadline exceeded", "resource busy", "removal of container", "is restarting")
_NO_QUOTA = ("storage-opt", "storage opt", "pquota")
_STDOUT = 1
_FRAME = struct.Struct(">BxxxL")


class NameTaken(EngineRefused):
    """A container or a network of that name is there."""


class NoQuota(EngineRefused):
    """The engine's storage driver cannot limit a container's disk."""


@dataclass(frozen=True)
class Container:
    """What a look at a container tells."""

    id: str
    labels: Mapping[str, str]
    #: ``created``, ``running``, ``paused``, ``restarting``, ``removing``, ``exited``, ``dead``.
    status: str
    exit_code: int
    out_of_memory: bool
    unhealthy: bool
    #: Anonymous volumes, which go with the container.
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """What a look at a network tells."""

    id: str
    labels: Mapping[str, str]
    #: The containers in it, by id.
    members: tuple[str, ...]


@dataclass(frozen=True)
class LabelledObject:
    """A container or a network in a list."""

    kind: str
    name: str
    labels: Mapping[str, str]
    #: Milliseconds since 1970.
    created_at: int


class Engine:
    """One Docker engine. Every method raises an ``EngineError``."""

    def __init__(self, config: DockerServer, timeout: float) -> None:
        self.config = config
        self._timeout = timeout
        self._circuit = CircuitBreaker(config.name)
        #: The API's version, once the engine told it.
        self._version = ""
        #: False once the engine refused a limit of a container's disk.
        self.has_quotas = True

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    # Look -------------------------------------------------------------------------------

    def find_container(self, name: str) -> Container | None:
        with self._calls() as client:
            try:
                found = client.inspect_container(name)
            except NotFound:
                return None
        state = found["State"]
        return Container(
            id=found["Id"],
            labels=found["Config"]["Labels"] or {},
            status=state["Status"],
            exit_code=state["ExitCode"],
            out_of_memory=state["OOMKilled"],
            unhealthy=state.get("Health", {}).get("Status") == "unhealthy",
            volumes=tuple(m["Name"] for m in found["Mounts"] if m["Type"] == "volume"),
        )

    def find_networks(self, name: str) -> list[Network]:
        """Return the networks of a name, or of an id.

        There may be several: the engine looks for a name before it makes a network, and requests
        that come together all find none.
        """
        with self._calls() as client:
            try:
                found = [client.inspect_network(name)]
            except NotFound:
                return []
            except APIError as problem:
                if "ambiguous" not in str(problem.explanation):
                    raise
                found = _inspect_all(client, name)
        return [
            Network(one["Id"], one["Labels"] or {}, tuple(one.get("Containers") or ()))
            for one in found
        ]

    def find_labelled(self, label: str, value: str) -> list[LabelledObject]:
        """Return the containers, running or not, and the networks that have a label."""
        wanted = {"label": f"{label}={value}"}
        with self._calls() as client:
            containers = client.containers(all=True, filters=wanted)
            networks = client.networks(filters=wanted)
        return [
            *(
                # One that is half removed may have lost its name.
                LabelledObject(
                    "container",
                    (one["Names"] or [one["Id"]])[0].lstrip("/"),
                    one["Labels"],
                    one["Created"] * 1000,
                )
                for one in containers
            ),
            *(
                LabelledObject("network", one["Name"], one["Labels"], _moment(one["Created"]))
                for one in networks
            ),
        ]

    def has_volume(self, name: str) -> bool:
        with self._calls() as client:
            try:
                client.inspect_volume(name)
            except NotFound:
                return False
        return True

    def has_image(self, name: str) -> bool:
        with self._calls() as client:
            try:
                client.inspect_image(name)
            except NotFound:
                return False
        return True

    def describe(self) -> dict[str, Any]:
        """Return what ``docker info`` shows."""
        with self._calls() as client:
            return dict(client.info())

    def log_tail(self, name: str, lines: int) -> str:
        """Return the last lines that a container's main process wrote."""
        with self._calls() as client:
            tail: bytes = client.logs(name, tail=lines)
        return tail.decode(errors="replace")

    # Make -------------------------------------------------------------------------------

    def create_network(
        self, name: str, labels: Mapping[str, str], bridge: str, subnet: IPv4Network
    ) -> str:
        """Make a network and return its id; raises ``NameTaken`` and ``PortTaken``."""
        with self._calls(CHANGE_SECONDS) as client:
            made = client.create_network(
                name,
                driver="bridge",
                labels=dict(labels),
                options={"com.docker.network.bridge.name": bridge},
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))]),
                check_duplicate=True,
            )
        return str(made["Id"])

    def create_container(
        self, image: str, options: Mapping[str, Any], host: Mapping[str, Any]
    ) -> str:
        """Make a container and return its id; raises ``NameTaken`` and ``NoQuota``."""
        with self._calls(CHANGE_SECONDS) as client:
            try:
                made = client.create_container(
                    image, **options, host_config=client.create_host_config(**host)
                )
            except ImageNotFound:
                raise EngineRefused(
                    f"server {self.config.name}: image {image} is missing there"
                ) from None
        return str(made["Id"])

    def put(self, container_id: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar archive, as it comes, at the container's root."""
        with self._calls(STREAM_SECONDS) as client:
            # Anything but an iterator could be taken for the fields of a form.
            client.put_archive(container_id, "/", iter(chunks))

    def start(self, container_id: str) -> None:
        """Start a container; raises ``PortTaken``."""
        with self._calls(CHANGE_SECONDS) as client:
            client.start(container_id)

    def unpause(self, container_id: str) -> None:
        with self._calls(CHANGE_SECONDS) as client:
            client.unpause(container_id)

    def restart(self, container_id: str) -> None:
        """End all of a container's processes at once and start it again."""
        with self._calls(CHANGE_SECONDS) as client:
            client.restart(container_id, timeout=0)

    # Remove -----------------------------------------------------------------------------

    def remove_container(self, container_id: str) -> None:
        """End a container at once and remove it with its anonymous volumes, if it is there."""
        with self._calls(CHANGE_SECONDS) as client:
            try:
                client.remove_container(container_id, force=True, v=True)
            except NotFound:
                return

    def remove_network(self, network: Network) -> None:
        """Remove a network if it is there, and disconnect every container in it first."""
        with self._calls(CHANGE_SECONDS) as client:
            try:
                for member in network.members:
                    client.disconnect_container_from_network(member, network.id, force=True)
                client.remove_network(network.id)
            except NotFound:
                return

    # Run --------------------------------------------------------------------------------

    def output_of(self, container_id: str, command: list[str]) -> bytes | None:
        """Run a short command in a container and return what it wrote; None if it cannot run."""
        end = time.monotonic() + self._timeout
        with self._calls() as client:
            try:
                made = client.exec_create(container_id, command, stderr=False)
            except APIError as problem:
                if problem.status_code in (404, 409):
                    return None
                raise
            # The library's own reading of a command's output would wait without an end.
            address = f"{client.base_url}/v{client.api_version}/exec/{made['Id']}/start"
            with client.post(
                address, json={"Detach": False}, stream=True, timeout=self._timeout
            ) as answer:
                answer.raise_for_status()
                return _standard_output(_read(answer.raw, end))

    def start_command(self, container_id: str, command: list[str]) -> str:
        """Start a long command in a container and return what ``exit_code`` asks about."""
        with self._calls() as client:
            made = client.exec_create(container_id, command)
            client.exec_start(made["Id"], detach=True)
        return str(made["Id"])

    def exit_code(self, command_id: str) -> int | None:
        """Return how a started command ended; None while it runs."""
        with self._calls() as client:
            found = client.exec_inspect(command_id)
        return None if found["Running"] else int(found["ExitCode"])

    # Calls ------------------------------------------------------------------------------

    @contextmanager
    def _calls(self, patience: float = 0.0) -> Iterator[Any]:
        """Lend a client whose calls wait ``patience`` seconds, or the configured time."""
        with self._circuit.guard():
            try:
                with closing(self._connect(max(patience, self._timeout))) as client:
                    yield client
            except (DockerException, RequestException, urllib3.exceptions.HTTPError) as problem:
                raise translate(problem, self.config.name) from None

    def _connect(self, patience: float) -> Any:
        if not self._version:
            with closing(self._client(OLDEST_VERSION, patience)) as client:
                self._version = str(client.version(api_version=False)["ApiVersion"])
        return self._client(self._version, patience)

    def _client(self, version: str, patience: float) -> Any:
        client = docker.APIClient(
            self.config.address, version=version, timeout=patience, tls=self._tls()
        )
        # The environment's proxies are not for engines, and its CA bundle would replace ours.
        # Looking for them also takes longer than most calls.
        client.trust_env = False
        return client

    def _tls(self) -> Any:
        if not self.config.tls_ca:
            return False
        return docker.tls.TLSConfig(
            client_cert=(self.config.tls_cert, self.config.tls_key),
            ca_cert=self.config.tls_ca,
            verify=True,
        )


def translate(problem: Exception, server: str) -> EngineError:
    """Return the engine error for an error of the library; no call of ours has a secret."""
    response = getattr(problem, "response", None)
    if response is None:
        return EngineUnavailable(f"server {server}: no answer: {_one_line(str(problem))}")
    words = _one_line(getattr(problem, "explanation", None) or str(problem))
    said = words.lower()
    text = f"server {server}: {words}"
    if any(phrase in said for phrase in _PORT_TAKEN):
        return PortTaken(text)
    if response.status_code in (429, 503) or any(phrase in said for phrase in _LATER):
        return EngineBusy(text)
    if any(phrase in said for phrase in _NO_QUOTA):
        return NoQuota(text)
    if response.status_code == 409 and "already" in said:
        return NameTaken(text)
    return EngineRefused(text)


def _inspect_all(client: Any, name: str) -> list[dict[str, Any]]:
    """Return what the engine tells of each network of a name."""
    found = []
    # The filter also finds longer names.
    for one in client.networks(names=[name]):
        with suppress(NotFound):
            if one["Name"] == name:
                found.append(client.inspect_network(one["Id"]))
    return found


def _moment(text: str) -> int:
    """Return the milliseconds of a time such as ``2019-01-10T10:00:00.123456789Z``."""
    return int(datetime.fromisoformat(f"{text[:19]}+00:00").timestamp() * 1000)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _read(stream: Any, end: float) -> bytes:
    """Read a stream up to its end or ``OUTPUT_LIMIT``; a read waits as long as a call may."""
    found = bytearray()
    while len(found) < OUTPUT_LIMIT:
        part = stream.read1(1 << 16)
        if not part:
            break
        if time.monotonic() > end:
            raise urllib3.exceptions.ReadTimeoutError(stream, "", "the command does not end")
        found += part
    return bytes(found)


def _standard_output(stream: bytes) -> bytes:
    """Return what was written to the standard output, of a stream in Docker's frames."""
    found, position = bytearray(), 0
    while position + _FRAME.size <= len(stream):
        kind, size = _FRAME.unpack_from(stream, position)
        position += _FRAME.size
        if kind == _STDOUT:
            found += stream[position : position + size]
        position += size
    return bytes(found)
