"""The configured servers of one backend, by name."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from provisioning.backends.base import EngineUnavailable, Placement
from provisioning.configuration.servers import Server


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


#: Seconds between two looks for servers that are new or were changed.
LOOK_SECONDS = 3.0


#: The same where somebody needs a server that is not known.
LOOK_AGAIN_SECONDS = 0.5


Config = TypeVar("Config", bound=Server)


class GrowingFleet(Fleet[Kind], Generic[Config, Kind]):
    """Configured servers, and those that ``registered`` returns.

    It is asked now and then, by whoever needs a server at that time. None in its answer says
    that it cannot tell, so all stays as it is.
    """

    def __init__(
        self,
        build: Callable[[Config], Kind],
        configured: Iterable[Config],
        registered: Callable[[], Iterable[Config] | None],
    ) -> None:
        super().__init__(build(config) for config in configured)
        self._build = build
        self._registered = registered
        self._names = frozenset(self._servers)
        self._lock = threading.Lock()
        self._looked = float("-inf")

    def __iter__(self) -> Iterator[Kind]:
        self._look()
        return super().__iter__()

    def __getitem__(self, name: str) -> Kind:
        self._look(again=name not in self._servers)
        return super().__getitem__(name)

    def names(self) -> list[str]:
        self._look()
        return super().names()

    def placements(self, type_: str) -> list[Placement]:
        self._look()
        return super().placements(type_)

    def _look(self, *, again: bool = False) -> None:
        pause = LOOK_AGAIN_SECONDS if again else LOOK_SECONDS
        if time.monotonic() - self._looked < pause:
            return
        # The first look is waited for; during the others one goes on with what is known.
        if not self._lock.acquire(blocking=self._looked == float("-inf")):
            return
        try:
            if time.monotonic() - self._looked >= pause:
                self._renew()
                self._looked = time.monotonic()
        finally:
            self._lock.release()

    def _renew(self) -> None:
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
                # Whoever works with it now keeps its connection until done.
                server.close()
