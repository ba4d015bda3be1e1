"""The servers credentials are made on, from the environment or the servers file.

One server of a backend comes from its URL, ``mysql://user:password@host:port?option=value``;
several come from tables such as ``[[mysql]]`` in the servers file. Both take the same options:
the fields of the classes here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_type_hints
from urllib.parse import parse_qsl, unquote, urlsplit

from provisioning.catalog import BACKENDS
from provisioning.errors import ConfigurationError
from provisioning.vault import Secret


@dataclass(frozen=True, kw_only=True)
class Server:
    """What servers of all engines have: an address, an admin login, and what they take."""

    default_port: ClassVar[int]

    #: Kept in the state: a server that has credentials keeps its name.
    name: str
    host: str
    port: int = 0
    user: str
    password: Secret
    #: Where callers connect to, if that differs.
    public_host: str = ""
    public_port: int = 0
    #: Types that may be placed here; empty is all.
    types: tuple[str, ...] = ()
    #: False drains the server: what is there stays, nothing new comes.
    takes_new: bool = True
    #: Live credentials at most; 0 is no limit.
    max_credentials: int = 0
    #: CA file; when set, admin connections use TLS and verify the server.
    tls_ca: str = ""

    def flaw(self) -> str | None:
        """Return what makes the options useless together, in words, or None."""
        return None

    def takes(self, type_: str) -> bool:
        """Return whether new credentials of the type may be placed here."""
        return self.takes_new and (not self.types or type_ in self.types)


@dataclass(frozen=True, kw_only=True)
class MySQLServer(Server):
    """A MySQL or MariaDB server."""

    default_port: ClassVar[int] = 3306

    #: Logins are made with REQUIRE SSL.
    require_tls: bool = False


@dataclass(frozen=True, kw_only=True)
class PostgresServer(Server):
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


#: What Snowflake allows, unless an authentication policy allows less.
LONGEST_ACCESS_TOKEN_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class SnowflakeServer(Server):
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
    #: Hand out a programmatic access token in the place of the password that SERVICE lacks.
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


KINDS: dict[str, type[Server]] = {
    "mysql": MySQLServer,
    "snowflake": SnowflakeServer,
    "redshift-workspace": RedshiftServer,
    "postgresql": PostgresServer,
}


def read_servers(urls: Mapping[str, Secret], file: str) -> dict[str, tuple[Any, ...]]:
    """Return the servers of each backend, from a URL per backend and from the servers file.

    Raises ``ConfigurationError``, which names the key and never quotes a URL.
    """
    tables = _read_file(file) if file else {}
    found: dict[str, tuple[Any, ...]] = {}
    for backend, kind in KINDS.items():
        servers = [
            _build(kind, backend, f"SERVERS_FILE: {backend}[{position}]", table)
            for position, table in enumerate(tables.get(backend, []))
        ]
        if backend in urls and urls[backend].reveal():
            servers.insert(0, _from_url(kind, backend, urls[backend]))
        _require_different_names(backend, servers)
        found[backend] = tuple(servers)
    return found


def _read_file(file: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(Path(file).read_text())
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise ConfigurationError(f"SERVERS_FILE: {problem}") from None
    for name, value in tables.items():
        if name not in KINDS:
            raise ConfigurationError(f"SERVERS_FILE: {name} is not a backend with servers")
        if not isinstance(value, list):
            raise ConfigurationError(f"SERVERS_FILE: write [[{name}]], a table for each server")
    return tables


def url_key(backend: str) -> str:
    """Return the variable of the backend's server, such as ``REDSHIFT_WORKSPACE_URL``."""
    return backend.upper().replace("-", "_") + "_URL"


def _from_url(kind: type[Server], backend: str, secret: Secret) -> Server:
    key = url_key(backend)
    try:
        url = urlsplit(secret.reveal())
        port = url.port or kind.default_port
    except ValueError:
        raise ConfigurationError(f"{key}: not an address") from None
    if url.scheme != backend or not url.hostname or not url.username:
        raise ConfigurationError(f"{key}: write {backend}://user:password@host:port")
    options: dict[str, Any] = {
        name: _convert(kind, key, name, text) for name, text in parse_qsl(url.query)
    }
    if url.path.strip("/"):
        options["database"] = unquote(url.path.strip("/"))
    return _build(
        kind,
        backend,
        key,
        {
            "name": "default",
            "host": url.hostname,
            "port": port,
            "user": unquote(url.username),
            "password": unquote(url.password or ""),
            **options,
        },
    )


def _convert(kind: type[Server], key: str, name: str, text: str) -> Any:
    """Return a query option as the TOML value it stands for."""
    wanted = _option_types(kind).get(name)
    if wanted is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if wanted is int and text.isascii() and text.isdigit():
        return int(text)
    if wanted is list:
        return text.split(",")
    if wanted in (bool, int):
        raise ConfigurationError(f"{key}: {name} must be a {wanted.__name__}")
    return text


def _option_types(kind: type[Server]) -> dict[str, type]:
    """Return the TOML type of each option."""
    stored: dict[Any, type] = {Secret: str, tuple[str, ...]: list}
    return {
        name: stored.get(hint, hint)
        for name, hint in get_type_hints(kind).items()
        if name != "default_port"
    }


def _build(kind: type[Server], backend: str, where: str, table: Mapping[str, Any]) -> Server:
    types = _option_types(kind)
    for name, value in table.items():
        if name not in types:
            raise ConfigurationError(f"{where}.{name} is not known")
        # A bool is an int to Python, but `port = true` is a mistake.
        if type(value) is not types[name]:
            raise ConfigurationError(f"{where}.{name} must be a {types[name].__name__}")
    for item in fields(kind):
        if item.default is MISSING and item.name not in table:
            raise ConfigurationError(f"{where}.{item.name} is missing")
    for type_ in table.get("types", ()):
        if type_ not in BACKENDS[backend].types:
            raise ConfigurationError(f"{where}.types: '{type_}' is not a type of {backend}")
    values = {**table, "password": Secret(table.get("password", ""))}
    values["port"] = table.get("port") or kind.default_port
    values["public_host"] = table.get("public_host") or table["host"]
    values["public_port"] = table.get("public_port") or values["port"]
    values["types"] = tuple(table.get("types", ()))
    server = kind(**values)
    if flaw := server.flaw():
        raise ConfigurationError(f"{where}: {flaw}")
    return server


def _require_different_names(backend: str, servers: list[Server]) -> None:
    names = [server.name for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"SERVERS_FILE: two {backend} servers are named '{name}'")
