"""The configuration: environment variables, and a TOML file for several servers.

``KEYS`` lists every variable once: the parser, `provisioning config` and the configuration
reference are all made from it.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from provisioning.catalog import BACKENDS
from provisioning.errors import ConfigurationError
from provisioning.vault import Secret

_DURATION = re.compile(r"([0-9]+)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
#: Backends this version can make credentials on; the others are known but have no server.
CONFIGURABLE_BACKENDS = ("mysql",)


@dataclass(frozen=True)
class Key:
    """One environment variable."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    help: str
    secret: bool = False


def _text(value: str) -> str:
    return value


def _secret(value: str) -> Secret:
    return Secret(value)


def _keys(value: str) -> tuple[Secret, ...]:
    return tuple(Secret(part.strip()) for part in value.split(",") if part.strip())


def _switch(value: str) -> bool:
    words = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
    try:
        return words[value.lower()]
    except KeyError:
        raise ValueError("write on or off") from None


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if number < minimum:
            raise ValueError(f"must be at least {minimum}")
        return number

    return parse


def _seconds(value: str) -> int:
    found = _DURATION.fullmatch(value.strip())
    if not found:
        raise ValueError("write a number with s, m, h or d behind it, such as 14d")
    return int(found[1]) * _UNITS[found[2]]


def _lifetime(value: str) -> int | None:
    if value.strip().lower() == "none":
        return None
    seconds = _seconds(value)
    if seconds < 1:
        raise ValueError("must be at least 1s, or none")
    return seconds


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return parse


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{0,8}", value):
        raise ValueError("at most 8 letters, digits or underscores")
    return value


def lifetime_key(backend: str, type_: str, *, maximum: bool = False) -> str:
    """Return the variable that sets a lifetime, such as ``MYSQL_SANDBOX_LIFETIME``."""
    name = f"{backend}_{type_}".upper().replace("-", "_")
    return name + ("_MAX_LIFETIME" if maximum else "_LIFETIME")


def _backend_keys() -> list[Key]:
    keys = []
    for backend in CONFIGURABLE_BACKENDS:
        rules = BACKENDS[backend]
        keys.append(
            Key(
                f"{backend.upper()}_REQUIRED_FEATURE",
                _text,
                "",
                f"A project feature without which {backend} is refused on creation (403).",
            )
        )
        for type_ in rules.types:
            seconds = rules.lifetimes[type_]
            default = "none" if seconds is None else f"{seconds // 86_400}d"
            keys.append(
                Key(
                    lifetime_key(backend, type_),
                    _lifetime,
                    default,
                    f"How long a {backend} {type_} credential lives from its touch; "
                    "`none` is for ever.",
                )
            )
            keys.append(
                Key(
                    lifetime_key(backend, type_, maximum=True),
                    _lifetime,
                    "none",
                    f"Hard maximum of a {backend} {type_} credential, counted from its creation; "
                    "extends end there.",
                )
            )
            keys.append(
                Key(
                    f"MYSQL_{type_.upper()}_CONNECTIONS",
                    _whole(0),
                    "0",
                    f"Simultaneous connections of one {type_} login; 0 leaves the server's limit.",
                )
            )
            keys.append(
                Key(
                    f"MYSQL_{type_.upper()}_STATEMENT_SECONDS",
                    _whole(0),
                    "0",
                    f"Longest statement of a {type_} login, enforced by MariaDB; 0 is no limit. "
                    "MySQL has no such limit per account.",
                )
            )
    return keys


KEYS: tuple[Key, ...] = (
    Key(
        "STATE_URL",
        _secret,
        None,
        "The state database: `sqlite:////path/state.db`, "
        "`postgresql+psycopg2://user:password@host/db` or `mysql+pymysql://user:password@host/db`.",
        secret=True,
    ),
    Key("STATE_CONNECTIONS", _whole(1), "16", "State database connections a process may hold."),
    Key(
        "BROKER_URL",
        _secret,
        None,
        "The Celery broker that wakes workers, `redis://:password@host:port/0` or `amqp://...`.",
        secret=True,
    ),
    Key(
        "ENCRYPTION_KEYS",
        _keys,
        None,
        "Keys that passwords are stored under, separated by commas; the first encrypts. "
        "`provisioning keys generate` makes one.",
        secret=True,
    ),
    Key("PUBLIC_URL", _text, "", "Where callers reach the service; empty: read off each request."),
    Key("NAME_PREFIX", _prefix, None, "Start of every object name; unset: a code made once."),
    Key("STORAGE_API_URL", _text, "", "Storage API that verifies tokens; empty: local tokens."),
    Key("TOKEN_CACHE_SECONDS", _seconds, "60s", "How long a verified token is trusted; 0 is off."),
    Key("TOKEN_TIMEOUT_SECONDS", _seconds, "10s", "Longest wait for the Storage API."),
    Key("PROJECT_FLAGS_CHECK", _switch, "on", "Refuse backends that the project's flags exclude."),
    Key("MAINTENANCE_MESSAGE", _text, "", "When set, every API call is 503 with this text."),
    Key("BODY_LIMIT_BYTES", _whole(1024), str(10 * 1024 * 1024), "Largest request body."),
    Key("CREATION_LIMIT_SECONDS", _seconds, "120s", "Longest wait of a create for its object."),
    Key("DELETE_WAIT_SECONDS", _seconds, "30s", "Wait of a delete or kill without Prefer."),
    Key(
        "WAITING_REQUESTS",
        _whole(1),
        "12",
        "Requests of one front process that may wait for jobs; further ones are answered at once.",
    ),
    Key("RETRY_AFTER_SECONDS", _seconds, "10s", "The Retry-After of 503 answers."),
    Key("CLAIM_SECONDS", _seconds, "10s", "After this silence another process takes work over."),
    Key("SWEEP_SECONDS", _seconds, "3s", "Pause between two recovery and expiry sweeps."),
    Key("JOB_RETRY_SECONDS", _seconds, "5m", "How long a failing job is tried again."),
    Key("SERVERS_FILE", _text, "", "TOML file with `[[mysql]]` tables, for several servers."),
    Key(
        "MYSQL_URL",
        _secret,
        "",
        "Admin login of one MySQL or MariaDB server, `mysql://user:password@host:port`.",
        secret=True,
    ),
    Key("MYSQL_PUBLIC_HOST", _text, "", "Host that callers connect to, where it differs."),
    Key("MYSQL_PUBLIC_PORT", _whole(0), "0", "Port that callers connect to; 0: the same."),
    Key("MYSQL_TLS_CA", _text, "", "CA file; turns TLS with verification on for that server."),
    Key("MYSQL_REQUIRE_TLS", _switch, "off", "Logins may connect through TLS only."),
    Key("ENGINE_TIMEOUT_SECONDS", _seconds, "10s", "Longest wait for one statement."),
    Key("ENGINE_CONNECTIONS", _whole(1), "4", "Admin connections per server and process."),
    Key("LOG_FORMAT", _choice("console", "json"), "console", "Form of the log lines."),
    Key("LOG_LEVEL", _choice("debug", "info", "warning", "error"), "info", "Least level to log."),
    *_backend_keys(),
)


@dataclass(frozen=True)
class MySQLServer:
    """One MySQL or MariaDB server and the admin login the service uses on it."""

    name: str
    host: str
    port: int
    user: str
    password: Secret
    public_host: str
    public_port: int
    #: Types that may be placed here.
    types: tuple[str, ...] = BACKENDS["mysql"].types
    #: False drains the server: what is there stays, nothing new comes.
    takes_new: bool = True
    #: Live credentials at most; ``None`` is no limit.
    max_credentials: int | None = None
    #: CA file; when set, admin connections use TLS and verify the server.
    tls_ca: str = ""
    #: Logins are made with REQUIRE SSL.
    require_tls: bool = False


@dataclass(frozen=True)
class Limits:
    """What one type's logins may do on the server; 0 is no limit."""

    connections: int
    statement_seconds: int


@dataclass(frozen=True)
class Lifetime:
    """Seconds; ``None`` is for ever. ``maximum`` counts from creation."""

    seconds: int | None
    maximum: int | None


@dataclass(frozen=True)
class Config:
    """The parsed configuration. ``values`` holds every key of ``KEYS`` by name."""

    values: Mapping[str, Any]
    mysql_servers: tuple[MySQLServer, ...] = field(default=())

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def lifetime(self, backend: str, type_: str) -> Lifetime:
        return Lifetime(
            seconds=self.values[lifetime_key(backend, type_)],
            maximum=self.values[lifetime_key(backend, type_, maximum=True)],
        )

    def mysql_limits(self, type_: str) -> Limits:
        return Limits(
            connections=self.values[f"MYSQL_{type_.upper()}_CONNECTIONS"],
            statement_seconds=self.values[f"MYSQL_{type_.upper()}_STATEMENT_SECONDS"],
        )


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; raise ``ConfigurationError`` naming the key that is wrong."""
    values = {key.name: _value(key, environment) for key in KEYS}
    return Config(values=values, mysql_servers=_mysql_servers(values))


def reference() -> str:
    """Return the configuration reference in Markdown."""
    lines = [
        "# Configuration",
        "",
        "Settings come from the environment. This page is printed by",
        "`provisioning config --reference`; `provisioning config` prints the values in force.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for key in KEYS:
        default = "required" if key.default is None else f"`{key.default}`" if key.default else ""
        if key.name == "NAME_PREFIX":
            default = ""
        lines.append(f"| `{key.name}` | {default} | {key.help} |")
    return "\n".join(lines) + "\n"


def _value(key: Key, environment: Mapping[str, str]) -> Any:
    text = environment.get(key.name)
    if text is None or (text == "" and key.name != "NAME_PREFIX"):
        text = key.default
    if text is None:
        if key.name == "NAME_PREFIX":
            return None
        raise ConfigurationError(f"{key.name} is not set: {key.help}")
    try:
        return key.parse(text)
    except ValueError as problem:
        shown = "" if key.secret else f" (got '{text}')"
        raise ConfigurationError(f"{key.name}: {problem}{shown}") from None


def _mysql_servers(values: Mapping[str, Any]) -> tuple[MySQLServer, ...]:
    servers = []
    if values["MYSQL_URL"].reveal():
        servers.append(_server_from_url(values))
    if values["SERVERS_FILE"]:
        servers.extend(_servers_from_file(Path(values["SERVERS_FILE"])))
    names = [server.name for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"SERVERS_FILE: two mysql servers are named '{name}'")
    return tuple(servers)


def _server_from_url(values: Mapping[str, Any]) -> MySQLServer:
    try:
        url = urlsplit(values["MYSQL_URL"].reveal())
        port = url.port or 3306
    except ValueError:
        raise ConfigurationError("MYSQL_URL: not an address") from None
    if url.scheme != "mysql" or not url.hostname or not url.username:
        raise ConfigurationError("MYSQL_URL: write mysql://user:password@host:port")
    return MySQLServer(
        name="default",
        host=url.hostname,
        port=port,
        user=unquote(url.username),
        password=Secret(unquote(url.password or "")),
        public_host=values["MYSQL_PUBLIC_HOST"] or url.hostname,
        public_port=values["MYSQL_PUBLIC_PORT"] or port,
        tls_ca=values["MYSQL_TLS_CA"],
        require_tls=values["MYSQL_REQUIRE_TLS"],
    )


#: What a ``[[mysql]]`` table may hold: the Python type of each key.
_SERVER_KEYS: dict[str, type] = {
    "name": str,
    "host": str,
    "port": int,
    "user": str,
    "password": str,
    "public_host": str,
    "public_port": int,
    "types": list,
    "takes_new": bool,
    "max_credentials": int,
    "tls_ca": str,
    "require_tls": bool,
}


def _servers_from_file(path: Path) -> list[MySQLServer]:
    try:
        tables = tomllib.loads(path.read_text()).get("mysql", [])
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise ConfigurationError(f"SERVERS_FILE: {problem}") from None
    return [_server_from_table(position, table) for position, table in enumerate(tables)]


def _server_from_table(position: int, table: Mapping[str, Any]) -> MySQLServer:
    where = f"SERVERS_FILE: mysql[{position}]"
    for key, value in table.items():
        if key not in _SERVER_KEYS:
            raise ConfigurationError(f"{where}.{key} is not known")
        if not isinstance(value, _SERVER_KEYS[key]):
            raise ConfigurationError(f"{where}.{key} must be a {_SERVER_KEYS[key].__name__}")
    for key in ("name", "host", "user", "password"):
        if key not in table:
            raise ConfigurationError(f"{where}.{key} is missing")
    types = tuple(table.get("types", BACKENDS["mysql"].types))
    for type_ in types:
        if type_ not in BACKENDS["mysql"].types:
            raise ConfigurationError(f"{where}.types: '{type_}' is not a type of mysql")
    port = table.get("port", 3306)
    return MySQLServer(
        name=table["name"],
        host=table["host"],
        port=port,
        user=table["user"],
        password=Secret(table["password"]),
        public_host=table.get("public_host", table["host"]),
        public_port=table.get("public_port", port),
        types=types,
        takes_new=table.get("takes_new", True),
        max_credentials=table.get("max_credentials"),
        tls_ca=table.get("tls_ca", ""),
        require_tls=table.get("require_tls", False),
    )
