"""The servers credentials are made on, from the environment or the servers file.

One server of a backend comes from its URL, ``mysql://user:password@host:port?option=value``;
several come from tables such as ``[[mysql]]`` in the servers file. Both take the same options:
the fields of the classes here.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from provisioning.configuration.durations import read_lifetime
from provisioning.configuration.secrets import Secret


@dataclass(frozen=True, kw_only=True)
class ServerConfig(ABC):
    """What servers of all engines have: a name, where callers connect to, and what they take."""

    #: Kept in the state: a server that has credentials keeps its name.
    name: str
    #: The host that callers connect to.
    public_host: str = ""
    #: Types that may be placed here; empty is all.
    types: tuple[str, ...] = ()
    #: False drains the server: what is there stays, nothing new comes.
    takes_new: bool = True
    #: Live credentials at most; 0 is no limit.
    max_credentials: int = 0
    #: Seconds that credentials live here, by type, instead of the type's own setting; None
    #: is for ever. Written as ``["sandbox:2d", "writer:none"]``.
    lifetimes: Mapping[str, int | None] = field(default_factory=dict)

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the server is, without secrets."""

    @classmethod
    @abstractmethod
    def read_url(cls, backend: str, url: SplitResult) -> dict[str, Any]:
        """Return the options in a URL before its query; ValueError says how to write one."""

    @classmethod
    def complete(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the fields for the options of a table."""
        return {
            **table,
            "types": tuple(table.get("types", ())),
            "lifetimes": dict(map(_read_type_lifetime, table.get("lifetimes", ()))),
        }

    def flaw(self) -> str | None:
        """Return what makes the options useless together, in words, or None."""
        return None

    def takes(self, type_: str) -> bool:
        """Return whether new credentials of the type may be placed here."""
        return self.takes_new and (not self.types or type_ in self.types)


@dataclass(frozen=True, kw_only=True)
class SQLServer(ServerConfig):
    """A server of a database: an address and an admin login."""

    default_port: ClassVar[int]

    host: str
    port: int = 0
    user: str
    password: Secret
    #: The port that callers connect to, if that differs; so does ``public_host``.
    public_port: int = 0
    #: CA file; when set, admin connections use TLS and verify the server.
    tls_ca: str = ""

    @property
    def location(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"

    @classmethod
    def read_url(cls, backend: str, url: SplitResult) -> dict[str, Any]:
        if url.scheme != backend or not url.hostname or not url.username:
            raise ValueError(f"write {backend}://user:password@host:port")
        options: dict[str, Any] = {
            "host": url.hostname,
            "port": url.port or cls.default_port,
            "user": unquote(url.username),
            "password": unquote(url.password or ""),
        }
        if url.path.strip("/"):
            options["database"] = unquote(url.path.strip("/"))
        return options

    @classmethod
    def complete(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        port = table.get("port") or cls.default_port
        return {
            **super().complete(table),
            "password": Secret(table.get("password", "")),
            "port": port,
            "public_host": table.get("public_host") or table["host"],
            "public_port": table.get("public_port") or port,
        }


@dataclass(frozen=True, kw_only=True)
class MySQLServer(SQLServer):
    """A MySQL or MariaDB server."""

    default_port: ClassVar[int] = 3306

    #: Logins are made with REQUIRE SSL.
    require_tls: bool = False


@dataclass(frozen=True, kw_only=True)
class PostgresServer(SQLServer):
    """A Redshift cluster or PostgreSQL server, and the database workspaces are made in."""

    default_port: ClassVar[int] = 5432

    database: str
    #: libpq's ``sslmode``; empty is libpq's default.
    tls_mode: str = ""
    #: Redshift only: gigabytes a workspace may hold; 0 is no limit.
    schema_quota_gb: int = 0


@dataclass(frozen=True, kw_only=True)
class RedshiftServer(PostgresServer):
    """A Redshift cluster."""

    default_port: ClassVar[int] = 5439


#: The start of the names of servers that are registered at run time; a number follows.
REGISTERED = "registered-"

#: What Snowflake allows, unless an authentication policy allows less.
LONGEST_ACCESS_TOKEN_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class SnowflakeServer(SQLServer):
    """A Snowflake account, and where in it workspaces are made."""

    default_port: ClassVar[int] = 443

    #: The admin's; a private key may take its place.
    password: Secret = Secret("")
    #: File with the admin's private key, PEM (PKCS 8) without a passphrase.
    private_key_file: str = ""
    #: The admin's role; empty is its default role.
    role: str = ""
    #: The account's identifier; empty is the host's first part.
    account: str = ""
    warehouse: str
    #: ``{project}`` stands for the project's id. Made when it is missing and the admin may.
    database: str = "sapi_{project}"
    #: The TYPE of the users that are made. SERVICE has no passwords, and always a key pair.
    user_type: str = "LEGACY_SERVICE"
    #: Make a key pair for each workspace whose owner sends no public key.
    key_pairs: bool = False
    #: Hand out a programmatic access token instead of the password that SERVICE lacks.
    access_tokens: bool = False
    #: Days after which such a token ends.
    access_token_days: int = LONGEST_ACCESS_TOKEN_DAYS
    #: ``http`` is for a simulator.
    protocol: str = "https"

    def flaw(self) -> str | None:
        if bool(self.password.reveal()) == bool(self.private_key_file):
            return "give the admin either a password or a private_key_file"
        if self.user_type not in ("LEGACY_SERVICE", "SERVICE", "PERSON"):
            return "user_type must be LEGACY_SERVICE, SERVICE or PERSON"
        if self.access_tokens and self.has_passwords:
            return f"access_tokens is for user_type SERVICE: {self.user_type} has passwords"
        if not 1 <= self.access_token_days <= LONGEST_ACCESS_TOKEN_DAYS:
            return f"access_token_days must be 1 to {LONGEST_ACCESS_TOKEN_DAYS}"
        if self.protocol not in ("https", "http"):
            return "protocol must be https or http"
        if self.tls_ca:
            return "tls_ca is not an option of snowflake: its driver trusts the system's CAs"
        return None

    @property
    def has_passwords(self) -> bool:
        """Whether the users that are made have passwords of ours."""
        return self.user_type != "SERVICE"

    @property
    def makes_key_pairs(self) -> bool:
        """Whether a workspace gets a key pair when its owner sends no key."""
        return self.key_pairs or not self.has_passwords


@dataclass(frozen=True, kw_only=True)
class DockerServer(ServerConfig):
    """A Docker engine, and what each sandbox on it gets."""

    #: Addresses in a sandbox's network: the host's, the sandbox's, and room for a restart that
    #: finds the last one not given back yet.
    NETWORK_BITS: ClassVar[int] = 29

    #: ``unix:///var/run/docker.sock`` or ``tcp://host:2376``.
    address: str = "unix:///var/run/docker.sock"
    #: Files for ``tcp``: the CA of the engine's certificate, our certificate and its key.
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    public_host: str = "localhost"
    #: Where the service itself reaches published ports; empty is ``public_host``.
    probe_host: str = ""
    #: The address of the engine's host that ports are published at.
    bind: str = "0.0.0.0"
    #: The ports that sandboxes are published at, one each.
    ports: str = "20000-27999"
    #: The nth port's sandbox has the nth small network of these, so nothing else need be
    #: remembered and the few networks of Docker's own pools are not used up.
    networks: str = "10.201.0.0/16"
    #: Pages are served with TLS: with the operator's certificate, else with one of our authority's.
    https: bool = True
    tls_certificate: str = ""
    tls_private_key: str = ""
    jupyter_image: str = "provisioning/jupyter:local"
    rstudio_image: str = "provisioning/rstudio:local"
    cpus: float = 2.0
    memory_mb: int = 8192
    #: Processes and threads.
    pids: int = 512
    #: Enforced where the engine's storage driver has quotas; 0 is no limit.
    disk_gb: int = 10
    #: How long a started sandbox may take until its page answers.
    ready_seconds: int = 60

    @property
    def location(self) -> str:
        return self.address

    @classmethod
    def read_url(cls, backend: str, url: SplitResult) -> dict[str, Any]:
        address = f"{url.scheme}://{url.netloc}{url.path}"
        if _docker_address_flaw(address):
            raise ValueError("write unix:///var/run/docker.sock or tcp://host:2376")
        return {"address": address}

    @property
    def port_range(self) -> range:
        """The ports that sandboxes are published at."""
        first, _, last = self.ports.partition("-")
        return range(int(first), int(last) + 1)

    def network_of(self, port: int) -> IPv4Network:
        """Return the network of the sandbox that is published at a port."""
        start = self.port_range.index(port) * self._network_size
        return IPv4Network((IPv4Network(self.networks).network_address + start, self.NETWORK_BITS))

    @property
    def _network_size(self) -> int:
        return 1 << (32 - self.NETWORK_BITS)

    def image(self, type_: str) -> str:
        """Return the image of a type's sandboxes."""
        return {"jupyter": self.jupyter_image, "rstudio": self.rstudio_image}[type_]

    def flaw(self) -> str | None:
        return (
            _docker_address_flaw(self.address)
            or self._tls_flaw()
            or self._places_flaw()
            or next(
                (
                    f"{name} must be above 0"
                    for name in ("cpus", "memory_mb", "pids", "ready_seconds")
                    if getattr(self, name) <= 0
                ),
                None,
            )
        )

    def _tls_flaw(self) -> str | None:
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not (all(files) and self.address.startswith("tcp:")):
            return "tls_ca, tls_cert and tls_key go together, with a tcp address"
        if bool(self.tls_certificate) != bool(self.tls_private_key):
            return "tls_certificate and tls_private_key go together"
        return None

    def _places_flaw(self) -> str | None:
        found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", self.ports)
        if not found or not 0 < int(found[1]) <= int(found[2]) < 2**16:
            return "ports must be a range such as 20000-27999"
        try:
            IPv4Address(self.bind)
        except ValueError:
            return "bind must be an IPv4 address"
        try:
            room = IPv4Network(self.networks).num_addresses // self._network_size
        except ValueError:
            return "networks must be a range such as 10.201.0.0/16"
        if room < len(self.port_range):
            return f"networks has room for {room} sandboxes, ports for {len(self.port_range)}"
        return None


def _docker_address_flaw(address: str) -> str | None:
    url = urlsplit(address)
    if (url.scheme == "unix" and url.path) or (url.scheme == "tcp" and url.hostname):
        return None
    return "address must be unix:///path or tcp://host:port"


KINDS: dict[str, type[ServerConfig]] = {
    "mysql": MySQLServer,
    "snowflake": SnowflakeServer,
    "redshift-workspace": RedshiftServer,
    "postgresql": PostgresServer,
    "docker": DockerServer,
}


def url_key(backend: str) -> str:
    """Return the variable of the backend's server, such as ``REDSHIFT_WORKSPACE_URL``."""
    return backend.upper().replace("-", "_") + "_URL"


def _read_type_lifetime(text: Any) -> tuple[str, int | None]:
    type_, colon, lifetime = str(text).partition(":")
    if not colon:
        raise ValueError(f"write a type and its lifetime, such as sandbox:2d (got '{text}')")
    try:
        return type_, read_lifetime(lifetime)
    except ValueError as problem:
        raise ValueError(f"{problem} (got '{text}')") from None
