"""The configuration: environment variables, and a TOML file for several servers.

`provisioning.configuration.settings` lists every variable once: the parser, `provisioning config`
and the configuration reference are all made from it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.origins import read_address
from provisioning.configuration.servers import KINDS, url_key
from provisioning.configuration.servers_file import read_servers
from provisioning.configuration.settings import KEYS, Key, lifetime_key, limit_key
from provisioning.errors import ConfigurationError

#: Seconds, a century: a project may have any number, of which not all are times.
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


@dataclass(frozen=True)
class Config:
    """The parsed configuration. ``values`` holds every key of ``KEYS`` by name."""

    values: Mapping[str, Any]
    #: The configured servers by backend.
    servers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

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
            maximum=self.values[lifetime_key(backend, type_, maximum=True)],
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
        own: int | None = self.values[lifetime_key(backend, type_)]
        return own

    def limits(self, backend: str) -> dict[str, Limits]:
        """Return the limits of a database backend's logins, by type."""
        return {
            type_: Limits(
                connections=self.values[limit_key(backend, type_, "connections")],
                statement_seconds=self.values[limit_key(backend, type_, "statement_seconds")],
            )
            for type_ in BACKENDS[backend].types
        }


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; raise ``ConfigurationError`` naming the key that is wrong."""
    values = {key.name: _value(key, environment) for key in KEYS}
    if values["CALLBACK_HOSTS"] and not values["CALLBACK_SECRET"].reveal():
        raise ConfigurationError("CALLBACK_SECRET is not set: CALLBACK_HOSTS need it")
    _require_allowed_warnings(values)
    urls = {backend: values[url_key(backend)] for backend in KINDS}
    return Config(values=values, servers=read_servers(urls, values["SERVERS_FILE"]))


def _require_allowed_warnings(values: Mapping[str, Any]) -> None:
    url = values["WARNING_URL"].reveal()
    try:
        allowed = not url or read_address(url).origin in values["CALLBACK_HOSTS"]
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
