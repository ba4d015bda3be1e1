"""The configured servers of one backend, by name."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from provisioning.backends.base import EngineUnavailable, Placement
from provisioning.configuration.servers import ServerConfig


class FleetServer(Protocol):
    """Anything that knows the configuration of its server."""

    @property
    def config(self) -> ServerConfig: ...

    def close(self) -> None: ...


ServerT = TypeVar("ServerT", bound=FleetServer)


class Fleet(Generic[ServerT]):
    """Finds servers by the name that rows keep, and those that take new credentials."""

    def __init__(self, servers: Iterable[ServerT]) -> None:
        self._servers = {server.config.name: server for server in servers}

    def __iter__(self) -> Iterator[ServerT]:
        return iter(self._servers.values())

    def __getitem__(self, name: str) -> ServerT:
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


#: Seconds between two reads of the registered servers.
REFRESH_SECONDS = 3.0


#: The same when a caller needs a server that is not known.
UNKNOWN_SERVER_REFRESH_SECONDS = 0.5


ConfigT = TypeVar("ConfigT", bound=ServerConfig)


class DynamicFleet(Fleet[ServerT], Generic[ConfigT, ServerT]):
    """Configured servers, and those that ``registered`` returns.

    A caller that needs a server asks it again when the last answer is old. If it returns None,
    the servers are unknown for now, and the fleet stays as it is.
    """

    def __init__(
        self,
        build: Callable[[ConfigT], ServerT],
        configured: Iterable[ConfigT],
        registered: Callable[[], Iterable[ConfigT] | None],
    ) -> None:
        super().__init__(build(config) for config in configured)
        self._build = build
        self._registered = registered
        self._names = frozenset(self._servers)
        self._lock = threading.Lock()
        self._refreshed_at = float("-inf")

    def __iter__(self) -> Iterator[ServerT]:
        self._refresh_if_due()
        return super().__iter__()

    def __getitem__(self, name: str) -> ServerT:
        self._refresh_if_due(unknown=name not in self._servers)
        return super().__getitem__(name)

    def names(self) -> list[str]:
        self._refresh_if_due()
        return super().names()

    def placements(self, type_: str) -> list[Placement]:
        self._refresh_if_due()
        return super().placements(type_)

    def _refresh_if_due(self, *, unknown: bool = False) -> None:
        pause = UNKNOWN_SERVER_REFRESH_SECONDS if unknown else REFRESH_SECONDS
        if time.monotonic() - self._refreshed_at < pause:
            return
        # Callers wait for the first refresh. During a later one they use the known servers.
        if not self._lock.acquire(blocking=self._refreshed_at == float("-inf")):
            return
        try:
            if time.monotonic() - self._refreshed_at >= pause:
                self._refresh()
                self._refreshed_at = time.monotonic()
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        registered = self._registered()
        if registered is None:
            return
        known = self._servers
        servers = {name: known[name] for name in known if name in self._names}
        for config in registered:
            server = known.get(config.name)
            unchanged = server is not None and server.config == config
            servers[config.name] = server if server and unchanged else self._build(config)
        self._servers = servers
        for name, server in known.items():
            if servers.get(name) is not server:
                # A caller that uses it now keeps its connection until it is done.
                server.close()
