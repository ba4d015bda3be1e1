"""What the conformance suite needs to know of a backend."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from provisioning.backends.base import Backend, Owner, Spec
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.state.claims import Lease
from provisioning.state.models import Credentials

_numbers = count(1)
TYPES = ("transformations", "sandbox", "writer", "luckyguess")
#: What the names of locks on servers are keyed with.
LOCK_SECRET = generate_password()
NO_LIMITS = {type_: Limits(0, 0) for type_ in TYPES}


def lock_secret() -> Secret:
    """Return what the names of locks on servers are keyed with in these tests."""
    return LOCK_SECRET


def lease(token: int = 1, *, seconds: float = 60.0) -> Lease:
    """Return a lease that runs out in ``seconds``, or did so when negative."""
    return Lease(Credentials, 0, token, time.monotonic() + seconds)


class Case(ABC):
    """One backend on a real server, for one type of credential."""

    #: The driver's base error, and a long-running statement.
    error: type[Exception]
    sleep: str

    def __init__(self, backend: Backend, type_: str) -> None:
        self.backend = backend
        self.type = type_
        self.prefix = f"t{next(_numbers):03d}_"

    def spec(self, *, person: str | None = None, project: str = "70") -> Spec:
        number = next(_numbers)
        owner = Owner(project, str(number), person)
        return self.backend.plan(self.prefix, owner, self.type, number, "one")

    def made(self, **who: Any) -> tuple[Spec, Secret]:
        spec, password = self.spec(**who), generate_password()
        self.backend.create(spec, password, lease())
        return spec, password

    @contextmanager
    def session(self, spec: Spec, password: Secret, **options: Any) -> Iterator[Any]:
        connection = self.connect(spec, password, **options)
        try:
            yield connection
        finally:
            with suppress(self.error):
                connection.close()

    @abstractmethod
    def connect(self, spec: Spec, password: Secret, *, autocommit: bool = True) -> Any:
        """Log in with the credential."""

    @abstractmethod
    def admin(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the server's administrator."""

    @abstractmethod
    def make_foreign_object(self, spec: Spec) -> None:
        """Make, as somebody else, the database or schema that ``spec`` would have."""

    @abstractmethod
    def foreign_object_survives(self, spec: Spec) -> bool:
        """Return whether it is still there, and remove it."""

    @abstractmethod
    def remove_object(self, spec: Spec) -> None:
        """Remove the database or schema behind the service."""

    @abstractmethod
    def remove_login(self, spec: Spec) -> None:
        """Remove the login behind the service."""

    @abstractmethod
    def lock_login(self, spec: Spec) -> None:
        """Leave the login as half of a drop does."""

    @abstractmethod
    def runs_long(self, spec: Spec) -> bool:
        """Return whether a long statement of the login runs."""

    @abstractmethod
    def hold_lock(self, spec: Spec) -> Any:
        """Return a connection that holds the credential's lock, as a stale holder does."""

    @abstractmethod
    def remains(self, spec: Spec) -> list[str]:
        """Return what the server still has of a credential."""

    @abstractmethod
    def forbidden(self, other: Spec) -> list[str]:
        """Return statements that a login must not be able to run."""
