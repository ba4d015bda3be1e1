"""The configured servers of one backend, by name."""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from provisioning.backends.base import EngineUnavailable, Placement
from provisioning.servers import Server


class Configured(Protocol):
    """Anything that knows the configuration of its server."""

    @property
    def config(self) -> Server: ...

    def close(self) -> None: ...


Kind = TypeVar("Kind", bound=Configured)


class Fleet(Generic[Kind]):
    """Finds servers by the name that rows keep, and those that take new credentials."""

    def __init__(self, servers: Iterable[Kind]) -> None:
        self._servers = {server.config.name: server for server in servers}

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._servers.values())

    def __getitem__(self, name: str) -> Kind:
        """Return a server; raise ``EngineUnavailable`` if it is not configured any more."""
        try:
            return self._servers[name]
        except KeyError:
            raise EngineUnavailable(f"server {name} is not configured") from None

    def names(self) -> list[str]:
        """Return the names of all servers."""
        return list(self._servers)

    def close(self) -> None:
        """Close all admin connections."""
        for server in self._servers.values():
            server.close()

    def placements(self, type_: str) -> list[Placement]:
        """Return the servers that take new credentials of the type now."""
        return [
            Placement(server.config.name, server.config.max_credentials or None)
            for server in self
            if server.config.takes(type_)
        ]
