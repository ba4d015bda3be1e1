"""The configuration: environment variables, and a TOML file for several servers.

`provisioning.configuration.settings` lists every variable once: the parser, `provisioning config`
and the configuration reference are all made from it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from provisioning.configuration.catalog import BACKENDS, BackendRules
from provisioning.configuration.origins import read_address
from provisioning.configuration.servers import KINDS, url_key
from provisioning.configuration.servers_file import read_servers
from provisioning.configuration.settings import (
    BACKEND_KEYS,
    GENERAL_KEYS,
    KEYS,
    Key,
    Settings,
    feature_key,
    lifetime_key,
    limit_key,
)
from provisioning.errors import ConfigurationError

#: Seconds, a century: a project may have any number, and not every number is a time.
LONGEST_LIMIT = 100 * 365 * 86_400


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


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The parsed configuration: an attribute for each setting, and what backends have."""

    #: The values of the backends' variables, by name.
    by_backend: Mapping[str, Any] = field(default_factory=dict)
    #: The configured servers by backend.
    servers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def by_variable(self) -> dict[str, Any]:
        """Return the values of ``KEYS`` by name."""
        general = {key.name: getattr(self, name) for name, key in GENERAL_KEYS.items()}
        return {**general, **self.by_backend}

    def offered(self) -> list[BackendRules]:
        """Return the rules of the backends that this installation offers (contract 5.6)."""
        by_default = {"mysql", *(name for name, servers in self.servers.items() if servers)}
        names = self.offered_backends or by_default
        return [rules for rules in BACKENDS.values() if rules.name in names]

    def required_feature(self, backend: str) -> str:
        """Return the project feature that a backend is created with only; empty is none."""
        feature: str = self.by_backend[feature_key(backend)]
        return feature

    def lifetime(
        self,
        backend: str,
        type_: str,
        limits: Mapping[str, int] = MappingProxyType({}),
        server: str | None = None,
    ) -> Lifetime:
        """Return a type's lifetime on a server, in a project with these ``limits``.

        The project's limit wins over the server's option, and that over the type's setting.
        """
        return Lifetime(
            seconds=self._seconds(backend, type_, limits, server),
            maximum=self.by_backend[lifetime_key(backend, type_, maximum=True)],
        )

    def _seconds(
        self, backend: str, type_: str, limits: Mapping[str, int], server: str | None
    ) -> int | None:
        for limit in BACKENDS[backend].lifetime_limits(type_):
            if limit in limits:
                return min(limits[limit], LONGEST_LIMIT)
        for configured in self.servers.get(backend, ()):
            if configured.name == server and type_ in configured.lifetimes:
                seconds: int | None = configured.lifetimes[type_]
                return seconds
        own: int | None = self.by_backend[lifetime_key(backend, type_)]
        return own

    def limits(self, backend: str) -> dict[str, Limits]:
        """Return the limits of a database backend's logins, by type."""
        return {
            type_: Limits(
                connections=self.by_backend[limit_key(backend, type_, "connections")],
                statement_seconds=self.by_backend[limit_key(backend, type_, "statement_seconds")],
            )
            for type_ in BACKENDS[backend].types
        }


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; raise ``ConfigurationError`` naming the key that is wrong."""
    general: dict[str, Any] = {name: _value(key, environment) for name, key in GENERAL_KEYS.items()}
    by_backend = {key.name: _value(key, environment) for key in BACKEND_KEYS}
    urls = {backend: by_backend[url_key(backend)] for backend in KINDS}
    unserved = Config(**general, by_backend=by_backend)
    if unserved.callback_hosts and not unserved.callback_secret.reveal():
        raise ConfigurationError("CALLBACK_SECRET is not set: CALLBACK_HOSTS need it")
    _require_allowed_warnings(unserved)
    return replace(unserved, servers=read_servers(urls, unserved.servers_file))


def _require_allowed_warnings(config: Config) -> None:
    url = config.warning_url.reveal()
    try:
        allowed = not url or read_address(url).origin in config.callback_hosts
    except ValueError as problem:
        raise ConfigurationError(f"WARNING_URL: {problem}") from None
    if not allowed:
        raise ConfigurationError("WARNING_URL: its host is not one of CALLBACK_HOSTS")


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
