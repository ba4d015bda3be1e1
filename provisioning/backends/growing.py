"""The servers of a backend that gets new ones while the process runs."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from provisioning.backends.base import Placement
from provisioning.backends.fleet import Configured, Fleet
from provisioning.servers import Server

#: Seconds between two looks for servers that are new or were changed.
LOOK_SECONDS = 3.0
#: The same where somebody needs a server that is not known.
LOOK_AGAIN_SECONDS = 0.5

Kind = TypeVar("Kind", bound=Configured)
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
