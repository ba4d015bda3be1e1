"""What the backends of databases share, whatever their engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from provisioning.backends.base import EngineError, Health, Placement, ServerObject
from provisioning.backends.servers.fleet import Fleet
from provisioning.backends.servers.server import EngineServer, PasswordServer
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret
from provisioning.state.claims import Lease

ServerT = TypeVar("ServerT", bound=EngineServer[Any, Any])
PasswordServerT = TypeVar("PasswordServerT", bound=PasswordServer[Any, Any])


def succeeds(attempt: Callable[[], None]) -> bool:
    """Return whether an attempt on a server ends without an ``EngineError``."""
    try:
        attempt()
    except EngineError:
        return False
    return True


class SQLBackend(ABC, Generic[ServerT]):
    """The servers of one engine, and the limits of the logins on them, by type."""

    ends_passwords = False

    def __init__(self, servers: Fleet[ServerT], limits: dict[str, Limits]) -> None:
        self._servers = servers
        self._limits = limits

    def close(self) -> None:
        self._servers.close()

    def servers(self) -> list[str]:
        return self._servers.names()

    def placements(self, type_: str) -> list[Placement]:
        return self._servers.placements(type_)

    def shares_login(self, type_: str) -> bool:
        return False

    def check(self) -> list[Health]:
        return [self._check_server(server) for server in self._servers]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return self._take_inventory(self._servers[server], prefix)

    @abstractmethod
    def _check_server(self, server: ServerT) -> Health:
        """Look whether a server answers, and lets its admin login do its work."""

    @abstractmethod
    def _take_inventory(self, server: ServerT, prefix: str) -> list[ServerObject]:
        """Return everything on the server that bears our mark."""


class PasswordSQLBackend(SQLBackend[PasswordServerT]):
    """An engine whose admin logins have passwords that can be changed."""

    def set_admin_password(self, server: str, password: Secret, lease: Lease) -> None:
        self._servers[server].set_admin_password(password, lease)

    def try_admin_password(self, server: str, password: Secret) -> None:
        self._servers[server].try_admin_password(password)
