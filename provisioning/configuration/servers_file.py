"""Reads the configured servers, from a URL per backend and from the servers file."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import parse_qsl, urlsplit

from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import KINDS, REGISTERED, ServerConfig, url_key
from provisioning.errors import ConfigurationError


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


def _from_url(kind: type[ServerConfig], backend: str, secret: Secret) -> ServerConfig:
    key = url_key(backend)
    try:
        url = urlsplit(secret.reveal())
        # Reading it is what finds a port that is no number.
        _ = url.port
    except ValueError:
        raise ConfigurationError(f"{key}: not an address") from None
    try:
        options = kind.read_url(backend, url)
    except ValueError as problem:
        raise ConfigurationError(f"{key}: {problem}") from None
    query = {name: _convert(kind, key, name, text) for name, text in parse_qsl(url.query)}
    return _build(kind, backend, key, {"name": "default", **options, **query})


def _convert(kind: type[ServerConfig], key: str, name: str, text: str) -> Any:
    """Return a query option as the TOML value it stands for."""
    wanted = _option_types(kind).get(name)
    if wanted is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if wanted is int and text.isascii() and text.isdigit():
        return int(text)
    if wanted is float and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if wanted is list:
        return text.split(",")
    if wanted in (bool, int, float):
        raise ConfigurationError(f"{key}: {name} must be a {wanted.__name__}")
    return text


def _option_types(kind: type[ServerConfig]) -> dict[str, type]:
    """Return the TOML type of each option."""
    stored: dict[Any, type] = {
        Secret: str,
        tuple[str, ...]: list,
        Mapping[str, int | None]: list,
    }
    hints = get_type_hints(kind)
    return {item.name: stored.get(hints[item.name], hints[item.name]) for item in fields(kind)}


def _build(
    kind: type[ServerConfig], backend: str, where: str, table: Mapping[str, Any]
) -> ServerConfig:
    types = _option_types(kind)
    for name, value in table.items():
        if name not in types:
            raise ConfigurationError(f"{where}.{name} is not known")
        # A bool is an int to Python, but `port = true` is a mistake.
        if type(value) is not types[name] and (type(value), types[name]) != (int, float):
            raise ConfigurationError(f"{where}.{name} must be a {types[name].__name__}")
    for item in fields(kind):
        if item.default is item.default_factory is MISSING and item.name not in table:
            raise ConfigurationError(f"{where}.{item.name} is missing")
    try:
        values = kind.complete(table)
    except ValueError as problem:
        raise ConfigurationError(f"{where}.lifetimes: {problem}") from None
    for option in ("types", "lifetimes"):
        for type_ in values[option]:
            if type_ not in BACKENDS[backend].types:
                raise ConfigurationError(f"{where}.{option}: '{type_}' is not a type of {backend}")
    server = kind(**values)
    if flaw := server.flaw():
        raise ConfigurationError(f"{where}: {flaw}")
    return server


def _require_different_names(backend: str, servers: list[ServerConfig]) -> None:
    names = [server.name for server in servers]
    for name in names:
        if name.startswith(REGISTERED):
            raise ConfigurationError(
                f"SERVERS_FILE: '{name}': names that begin with {REGISTERED} are those of servers "
                "registered at run time"
            )
        if names.count(name) > 1:
            raise ConfigurationError(f"SERVERS_FILE: two {backend} servers are named '{name}'")
