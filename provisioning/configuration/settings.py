"""Every environment variable, once: its form, its default and what it means."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from ipaddress import ip_network
from typing import Any, TypeVar, cast

from provisioning.configuration.catalog import BACKENDS, BackendRules
from provisioning.configuration.durations import read_leads as _leads
from provisioning.configuration.durations import read_lifetime as _lifetime
from provisioning.configuration.durations import read_seconds as _seconds
from provisioning.configuration.origins import read_origins
from provisioning.configuration.quota_limits import Defaults, read_defaults
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import KINDS, SQLServer, url_key

T = TypeVar("T")


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


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return parse


def _backends(value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    for name in names:
        if name not in BACKENDS:
            raise ValueError(f"'{name}' is none of {', '.join(BACKENDS)}")
    return names


def _listen(value: str) -> str:
    if value and not re.fullmatch(r"[^\s:]+:[0-9]{1,5}", value):
        raise ValueError("write host:port")
    return value


def _networks(value: str) -> tuple[str, ...]:
    networks = tuple(part.strip() for part in value.split(",") if part.strip())
    for network in networks:
        if network != "*":
            ip_network(network)
    return networks


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{0,8}", value):
        raise ValueError("at most 8 letters, digits or underscores")
    return value


#: What `_setting` keeps of a variable in the metadata of its field.
_KEY = "key"


def _setting(
    parse: Callable[[str], T], default: str | None, help: str, *, secret: bool = False
) -> T:
    """Declare an attribute that is read from the variable of its name, in upper case.

    It is typed as what the parser returns, which mypy compares with the annotation.
    """
    declared: Any = field(
        metadata={_KEY: partial(Key, parse=parse, default=default, help=help, secret=secret)}
    )
    return cast(T, declared)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that concern no single backend, each read from the variable of its name."""

    state_url: Secret = _setting(
        _secret,
        None,
        "The state database: `sqlite:////path/state.db`, "
        "`postgresql+psycopg2://user:password@host/db` or `mysql+pymysql://user:password@host/db`.",
        secret=True,
    )
    state_connections: int = _setting(
        _whole(1), "16", "State database connections a process may hold."
    )
    broker_url: Secret = _setting(
        _secret,
        None,
        "The Celery broker that wakes workers, `redis://:password@host:port/0` or `amqp://...`.",
        secret=True,
    )
    encryption_keys: tuple[Secret, ...] = _setting(
        _keys,
        None,
        "Keys that passwords are stored under, separated by commas; the first encrypts. "
        "`provisioning keys generate` makes one.",
        secret=True,
    )
    public_url: str = _setting(
        _text, "", "Where callers reach the service; empty: read off each request."
    )
    offered_backends: tuple[str, ...] = _setting(
        _backends,
        "",
        "Backends that callers may name, separated by commas; empty: those with a server, and "
        "`mysql`, whose servers can be registered.",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        _networks,
        "127.0.0.1,::1",
        "Addresses or networks of the proxies in front, separated by commas, whose "
        "`X-Forwarded-Proto` is believed; `*` is everybody.",
    )
    name_prefix: str | None = _setting(
        _prefix, None, "Start of every object name; unset: a code made once."
    )
    storage_api_url: str = _setting(
        _text, "", "Storage API that verifies tokens; empty: local tokens."
    )
    storage_directory: str = _setting(
        _text,
        "",
        "Directory with the tables and files of sandboxes, where there is no Storage API.",
    )
    token_cache_seconds: int = _setting(
        _seconds, "60s", "How long a verified token is trusted; 0 is off."
    )
    token_timeout_seconds: int = _setting(_seconds, "10s", "Longest wait for the Storage API.")
    project_flags_check: bool = _setting(
        _switch, "on", "Refuse backends that the project's flags exclude."
    )
    maintenance_message: str = _setting(
        _text, "", "When set, every API call but those of operators is 503 with this text."
    )
    manage_calls_per_minute: int = _setting(
        _whole(0),
        "120",
        "Calls of one management token that a front process answers in a minute; 0 is no limit.",
    )
    body_limit_bytes: int = _setting(_whole(1024), str(10 * 1024 * 1024), "Largest request body.")
    params_limit_bytes: int = _setting(
        _whole(1024),
        str(64 * 1024),
        "Longest parameters of a sandbox without its script, as its job's record keeps them.",
    )
    content_limit_bytes: int = _setting(
        _whole(1),
        str(10 * 1024**3),
        "Largest table or file, unpacked, that is loaded into a sandbox.",
    )
    request_head_seconds: int = _setting(
        _seconds, "10s", "Longest time from the first byte of a request to the end of its headers."
    )
    request_body_seconds: int = _setting(
        _seconds, "60s", "Longest time from there to the end of the body."
    )
    drain_seconds: int = _setting(
        _seconds,
        "5s",
        "How long a front that was told to stop is not ready but still accepts requests, until "
        "load balancers have noticed.",
    )
    creation_limit_seconds: int = _setting(
        _seconds, "120s", "Longest wait of a create for its object."
    )
    delete_wait_seconds: int = _setting(_seconds, "30s", "Wait of a delete or kill without Prefer.")
    waiting_requests: int = _setting(
        _whole(1),
        "240",
        "Requests of one front process that may wait for jobs and creations, each in a thread of "
        "its own; one token gets at most half of these places.",
    )
    streams: int = _setting(
        _whole(0),
        "32",
        "Streams of jobs that one front process keeps open, of which one token gets at most half. "
        "They take places of WAITING_REQUESTS.",
    )
    stream_seconds: int = _setting(
        _seconds, "5m", "Longest stream of a job; then its reader comes back."
    )
    retry_after_seconds: int = _setting(_seconds, "10s", "The Retry-After of 503 answers.")
    claim_seconds: int = _setting(
        _seconds, "10s", "After this silence another process takes work over."
    )
    sweep_seconds: int = _setting(_seconds, "3s", "Pause between two recovery and expiry sweeps.")
    orphan_check_seconds: int = _setting(
        _seconds,
        "1h",
        "Pause between two comparisons of the servers with the state, which remove nothing; 0 is "
        "none.",
    )
    project_parallel_jobs: int = _setting(
        _whole(0),
        "0",
        "Jobs of one project that run at once, where its token tells no "
        "`components.jobsParallelism`; 0 is no limit.",
    )
    waiting_jobs_per_project: int = _setting(
        _whole(0),
        "2000",
        "Waiting jobs of a project above which requests for more are 503; 0 is no limit.",
    )
    waiting_jobs: int = _setting(
        _whole(0),
        "20000",
        "Waiting jobs in all above which requests for more are 503; 0 is no limit.",
    )
    quotas: Defaults = _setting(
        read_defaults,
        "",
        "Limits of what one project has at once, where its token tells none of these: such as "
        "`credentials=100,credentials.soft=80,token.containers=2`; see operations.",
    )
    job_retry_seconds: int = _setting(
        _seconds, "5m", "How long a failing job is tried, from its start."
    )
    job_attempts: int = _setting(
        _whole(1), "20", "How often a job is tried, if its workers die of it."
    )
    job_retention: int | None = _setting(
        _lifetime,
        "90d",
        "How long finished jobs and dropped credentials are kept; `none` is for ever.",
    )
    event_retention: int | None = _setting(
        _lifetime, "90d", "How long events are kept; `none` is for ever."
    )
    servers_file: str = _setting(
        _text,
        "",
        "TOML file with a table such as `[[mysql]]` for each server, for several servers.",
    )
    engine_timeout_seconds: int = _setting(
        _seconds, "10s", "Longest wait for one statement or call."
    )
    engine_connections: int = _setting(_whole(1), "4", "Admin connections per server and process.")
    callback_hosts: tuple[str, ...] = _setting(
        read_origins,
        "",
        "Hosts that may get a message at a job's end, separated by commas: "
        "`hooks.example.com` (HTTPS), "
        "`hooks.example.com:8443`, `http://localhost:1234`; empty: none.",
    )
    callback_secret: Secret = _setting(
        _secret, "", "Signs the messages to these hosts; required with CALLBACK_HOSTS.", secret=True
    )
    callback_timeout_seconds: int = _setting(
        _seconds, "10s", "Longest wait for the answer of such a host."
    )
    callback_retry_seconds: int = _setting(
        _seconds, "6h", "How long it is tried to tell of a job's end."
    )
    warnings: tuple[int, ...] = _setting(
        _leads,
        "24h,1h",
        "How long before their end the owners of credentials are warned, separated by commas; "
        "empty: not at all.",
    )
    warning_url: Secret = _setting(
        _secret,
        "",
        "Where these warnings are posted, signed as callbacks are; its host has to be one of "
        "CALLBACK_HOSTS.",
        secret=True,
    )
    sandbox_grace: int = _setting(
        _seconds,
        "0",
        "How much longer a sandbox lives, once, if somebody works in it at its end; 0: no longer.",
    )
    provisioning_failpoints: str = _setting(
        _text, "", "For tests alone: directory with the fail-points that are armed; empty: none."
    )
    metrics_token: Secret = _setting(
        _secret,
        "",
        "What Prometheus sends as its bearer token to `/metrics` of fronts; empty: there is none.",
        secret=True,
    )
    metrics_listen: str = _setting(
        _listen,
        "",
        "Where a worker publishes its metrics, without a token, such as `127.0.0.1:9100`; empty: "
        "nowhere.",
    )
    access_log: bool = _setting(_switch, "on", "Log a line for each request.")
    log_format: str = _setting(_choice("console", "json"), "console", "Form of the log lines.")
    log_level: str = _setting(
        _choice("debug", "info", "warning", "error"), "info", "Least level to log."
    )


def lifetime_key(backend: str, type_: str, *, maximum: bool = False) -> str:
    """Return the variable that sets a lifetime, such as ``MYSQL_SANDBOX_LIFETIME``."""
    name = f"{backend}_{type_}".upper().replace("-", "_")
    return name + ("_MAX_LIFETIME" if maximum else "_LIFETIME")


def limit_key(backend: str, type_: str, limit: str) -> str:
    """Return the variable of a limit, such as ``MYSQL_SANDBOX_CONNECTIONS``."""
    return f"{backend}_{type_}_{limit}".upper().replace("-", "_")


def feature_key(backend: str) -> str:
    """Return the variable of a required feature, such as ``MYSQL_REQUIRED_FEATURE``."""
    return f"{backend}_REQUIRED_FEATURE".upper().replace("-", "_")


def _backend_keys(backend: str) -> list[Key]:
    rules = BACKENDS[backend]
    if issubclass(KINDS[backend], SQLServer):
        server = f"Admin login of one {backend} server, `{backend}://user:password@host:port`"
    else:
        server = "Address of one Docker engine, `unix:///var/run/docker.sock` or `tcp://host:port`"
    keys = [
        Key(
            url_key(backend),
            _secret,
            "",
            f"{server}; options follow as in the servers file, such as "
            "`?public_host=db.example.com`.",
            secret=True,
        ),
        Key(
            feature_key(backend),
            _text,
            "",
            f"A project feature without which {backend} is refused on creation (403).",
        ),
    ]
    for type_ in rules.types:
        keys += _lifetime_keys(rules, type_)
        if issubclass(KINDS[backend], SQLServer):
            keys += _limit_keys(rules, type_)
    return keys


def _lifetime_keys(rules: BackendRules, type_: str) -> list[Key]:
    backend, seconds = rules.name, rules.lifetimes[type_]
    return [
        Key(
            lifetime_key(backend, type_),
            _lifetime,
            "none" if seconds is None else f"{seconds // 86_400}d",
            f"How long a {backend} {type_} credential lives from its touch; `none` is for ever.",
        ),
        Key(
            lifetime_key(backend, type_, maximum=True),
            _lifetime,
            "none",
            f"Hard maximum of a {backend} {type_} credential, counted from its creation; "
            "extends end there.",
        ),
    ]


#: What else is to say about the limit on connections of a backend, or of one of its types.
_CONNECTIONS_NOTE = {
    ("snowflake", ""): " Without effect: it has no limit per login.",
    ("mysql", "sandbox"): " A person's sandboxes on a server share one login, and so the limit.",
}


def _limit_keys(rules: BackendRules, type_: str) -> list[Key]:
    backend = rules.name
    return [
        Key(
            limit_key(backend, type_, "connections"),
            _whole(0),
            str(rules.connections),
            f"Simultaneous connections of one {backend} {type_} login; 0 is the server's limit."
            + _CONNECTIONS_NOTE.get((backend, type_), _CONNECTIONS_NOTE.get((backend, ""), "")),
        ),
        Key(
            limit_key(backend, type_, "statement_seconds"),
            _whole(0),
            str(rules.statement_seconds.get(type_, 0)),
            f"Longest statement of a {backend} {type_} login, enforced by the server; 0 is no "
            "limit. MySQL (not MariaDB) has no such limit per account.",
        ),
    ]


#: The variables of the settings, by attribute.
GENERAL_KEYS: Mapping[str, Key] = {
    setting.name: setting.metadata[_KEY](setting.name.upper()) for setting in fields(Settings)
}
#: The variables of the backends: their servers, lifetimes and limits.
BACKEND_KEYS: tuple[Key, ...] = tuple(key for backend in KINDS for key in _backend_keys(backend))
KEYS: tuple[Key, ...] = (*GENERAL_KEYS.values(), *BACKEND_KEYS)
