"""What the fault tests need of an engine: to look at it, to log in, and to break it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devstack.server import Server

#: The service's own administrator: it has the rights it needs, which tests take from it.
ADMIN, ADMIN_PASSWORD = "fault_admin", "Fault-admin-password-1"

#: The keys of ``credentials`` in an answer, of whatever engine.
Details = Mapping[str, Any]


@dataclass(frozen=True)
class Inventory:
    """What one server has under the installation's prefix."""

    #: Databases or schemas, as rows name them.
    objects: frozenset[str]
    logins: frozenset[str]
    #: (login, object) of each grant.
    grants: frozenset[tuple[str, str]]
    #: (session, login, current object); None is no object, or one that the engine does not tell.
    sessions: Sequence[tuple[int, str, str | None]]
    #: Roles beside the logins, each for the login of its name.
    roles: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """Return everything that somebody made."""
        return self.objects | self.logins | self.roles


@dataclass(frozen=True)
class Right:
    """A right of the service's administrator: how to take it, and how to give it back."""

    #: The statement that fails without it, as failures name it.
    step: str
    take: str
    give: str


@dataclass(frozen=True)
class Foreign:
    """Something of somebody else's that bears the name of a credential's part."""

    part: str
    make: tuple[str, ...]
    #: A query whose answer changes when somebody touches it.
    look: str
    remove: str


class Engine(ABC):
    """One server, under the name that a service's configuration has for it."""

    backend: str
    #: The driver's base error.
    error: type[Exception]
    #: The types whose creations and removals differ in their steps.
    types: tuple[str, ...]
    #: Fail-points of the backend's part of a creation, in their order.
    create: tuple[str, ...]
    #: Fail-points of a removal, by type, in their order.
    drop: Mapping[str, tuple[str, ...]]
    #: Fail-points of a new password, in their order.
    password: tuple[str, ...] = ("password.locked", "password.set")
    #: What somebody can remove by hand of a credential.
    parts: tuple[str, ...]

    def __init__(self, server: Server, *, name: str = "default") -> None:
        self.server = server
        self.name = name

    # The server ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the server, or start it again, and make what a service needs there."""
        self.server.start()
        self.prepare()

    def stop(self) -> None:
        self.server.stop()

    def leave(self) -> None:
        """Be gone at once, as a machine without power."""
        self.server.kill()

    def come_back(self) -> None:
        """Be there again after `leave`, with everything that was there."""
        self.server.start()

    def hang(self) -> None:
        """Accept connections and answer nothing until `release`."""
        self.server.pause()

    def release(self) -> None:
        self.server.resume()

    @abstractmethod
    def prepare(self) -> None:
        """Make the service's administrator, unless it is there."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The server's address as a service's configuration has it."""

    @abstractmethod
    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the server's own administrator; return the rows of the last."""

    # Credentials --------------------------------------------------------------------

    @abstractmethod
    def take_inventory(self, prefix: str) -> Inventory:
        """List what bears the prefix."""

    @abstractmethod
    def connect(self, credentials: Details) -> Any:
        """Log in as the owner; raise ``error`` unless the credential can be used."""

    def try_login(self, credentials: Details) -> None:
        """Raise ``error`` unless the credential can be used."""
        self.connect(credentials).close()

    @abstractmethod
    def remove(self, credentials: Details, part: str) -> None:
        """Remove one of ``parts`` behind the service."""

    # Refusals -----------------------------------------------------------------------

    @abstractmethod
    def creation_rights(self) -> list[Right]:
        """Return rights without which a creation fails, each at another statement."""

    @abstractmethod
    def removal_right(self, credentials: Details) -> Right:
        """Return one without which the credential cannot be removed."""

    @abstractmethod
    def foreigners(self, prefix: str, number: int, type_: str) -> list[Foreign]:
        """Return what can stand in the way of the credential of that number, by its names."""

    def forget_rights(self) -> None:
        """Let changed rights of the administrator count, where sessions keep those of before."""
        return
