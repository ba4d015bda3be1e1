"""What a backend must do. One module per engine holds everything about that engine.

Every verb is idempotent, and the engine's statement timeout bounds its time. A verb that changes
something first takes the credential's lock on the engine, where the engine has one, and ends the
session of a stale holder. Then it calls ``lease.check()``. From there on a replaced holder cannot
change anything on the server, however late it wakes up.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, runtime_checkable

from provisioning.configuration.secrets import Secret
from provisioning.state.claims import Lease

_STEP = re.compile("[A-Z_]+(?: [A-Z_]+)?")


class EngineError(Exception):
    """A step failed on the server. The text is for operators: no secret, no SQL.

    It names the step by the statement's first words, such as ``CREATE USER``.
    """

    @property
    def code(self) -> int | str | None:
        """The server's own number or SQLSTATE, if it gave one: the second argument."""
        return self.args[1] if len(self.args) > 1 else None


class EngineUnavailable(EngineError):
    """The server cannot be reached or did not answer in time. It may have done the step."""


class EngineBusy(EngineUnavailable):
    """The server works, but cannot do this step now: a lock, a limit, read-only mode."""


class RemovalUnfinished(EngineBusy):
    """One turn of a removal is over and more is left; the next turn goes on with it."""


class EngineRefused(EngineError):
    """The server answered and refused: a missing right, a full disk, a name in use."""


class LoginRefused(EngineRefused):
    """All objects are there, but the server refuses the login with its password."""


class PortTaken(EngineRefused):
    """Another process listens on the sandbox's port. Nothing is left of the sandbox."""


class NameInUse(EngineRefused):
    """Another object has the new name, and the credential did not make it. Nothing was made."""


def step_of(sql: str) -> str:
    """Return what a statement does: its first words, before any name or value."""
    found = _STEP.match(sql)
    return found[0] if found else ""


@dataclass(frozen=True)
class Spec:
    """The objects of one credential, as its row names them."""

    credentials_id: int
    type: str
    server: str
    user_name: str
    #: The database, schema or container.
    object_name: str
    #: Milliseconds since 1970; None is never, or not decided yet.
    expires_at: int | None = None
    #: The published port of a sandbox.
    port: int | None = None
    #: The key whose owner may log in, as `provisioning.backends.key_pairs` keeps it.
    public_key: str | None = None
    #: Its other half, if the pair is ours; only in the specs of a creation and of an answer.
    private_key: Secret | None = None
    #: When the server ends the password by itself, if it was the server that chose it.
    password_ends_at: int | None = None


@dataclass(frozen=True)
class Placement:
    """A server that may take a new credential."""

    server: str
    #: Live credentials at most; ``None`` is no limit.
    capacity: int | None


@dataclass(frozen=True)
class Owner:
    """Whom a credential is for, as far as names and keys go."""

    project_id: str
    token_id: str
    person_id: str | None
    #: What the owner logs in with, on backends that take keys.
    public_key: str | None = None


@dataclass(frozen=True)
class IssuedPassword:
    """A password that the server chose instead of ours. An empty text means no password."""

    password: Secret
    #: Milliseconds since 1970; None is never.
    ends_at: int | None


@dataclass(frozen=True)
class Health:
    """One server's condition, in words an operator can act on."""

    server: str
    alive: bool
    message: str


@dataclass(frozen=True)
class ServerObject:
    """Something on a server that bears the installation's mark."""

    server: str
    #: ``database``, ``login``, ``container`` and the like.
    kind: str
    #: As the server has it.
    name: str
    #: The login and the object a row would name it by; a grant has both.
    user_name: str | None = None
    object_name: str | None = None
    #: The credential it is a part of, read from its name or label. None when `plan` would not
    #: give such a name, so someone else chose it. Id 0 is a login that several may share.
    spec: Spec | None = None
    #: Milliseconds since 1970, where the server tells.
    created_at: int | None = None


class Backend(Protocol):
    """One engine with all its servers."""

    name: str
    #: The kinds of objects that each complete credential has.
    parts: frozenset[str]
    #: Whether servers end passwords by themselves, so that an extend has to reach them.
    ends_passwords: bool

    def placements(self, type_: str) -> list[Placement]:
        """Return the servers that take new credentials of the type now."""

    def shares_login(self, type_: str) -> bool:
        """Return whether one person's credentials of the type share a login per server."""

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        """Choose the names of the objects, and the keys. Pure: no engine call."""

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        """Return the connection keys of contract section 10, without ``id``."""

    def create(self, spec: Spec, password: Secret, lease: Lease) -> IssuedPassword | None:
        """Make the objects, or finish half-made ones; return when a login works.

        The password is the login's, unless the server has one of its own, which is returned.
        """

    def exists(self, spec: Spec) -> bool:
        """Return whether the credential can be used; False when any part is gone."""

    def in_use(self, spec: Spec) -> bool:
        """Return whether a session of the credential is open (contract 6.2.1)."""

    def prolong(self, spec: Spec) -> IssuedPassword | None:
        """Make a server that ends passwords by itself wait for ``spec.expires_at``.

        Where it cannot wait, a new password is returned; the old one works until its end.
        """

    def kill(self, spec: Spec, lease: Lease) -> int:
        """End all sessions of the credential and return how many there were."""

    def drop(
        self, spec: Spec, lease: Lease, access_ended: Callable[[], None] = lambda: None
    ) -> None:
        """End access, remove everything, and return after looking that it is gone.

        ``access_ended`` is called once the login is locked and no session of it is left. That
        takes seconds, whatever a tenant holds. What comes after may take many turns: an error
        then names what is in the way, and ``RemovalUnfinished`` says that nothing is.
        """

    def close(self) -> None:
        """Close all admin connections; the backend is not used after."""

    def check(self) -> list[Health]:
        """Look whether each server answers."""

    def servers(self) -> list[str]:
        """Return the names of the configured servers."""

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        """Return everything on the server that seems to bear our mark.

        The mark is the name's ``prefix``, or on engines with labels the installation's label.
        With an empty prefix, only what has the form of our names is listed.
        """


@runtime_checkable
class BulkBackend(Protocol):
    """An engine that removes many credentials with fewer statements than one by one."""

    def drop_many(self, removals: Sequence[tuple[Spec, Lease]]) -> Iterator[list[Spec]]:
        """Drop the credentials of one server that can be dropped together.

        Yields them in groups, each once it is gone. Raises as `drop` does, without the culprit:
        call `drop` for each one to find it.
        """


class LoginBackend(Backend, Protocol):
    """An engine whose credentials are logins that can change their own password."""

    def lets_in(self, spec: Spec, password: Secret) -> bool:
        """Return whether all parts are there and the owner can log in with what the state has.

        False when the login failed for whatever reason, an outage among them.
        """

    def set_password(
        self, spec: Spec, password: Secret, lease: Lease, *, end_sessions: bool
    ) -> IssuedPassword | None:
        """Give the login this password, or what the server has instead, which is returned.

        Returns when a login with it works, and nothing else lets anybody in. ``lease`` is of the
        credential, or of the login that several share. After ``EngineRefused`` the old one is in
        force, but for ``LoginRefused``. With ``end_sessions``, all sessions of the login are ended,
        wherever they are.
        """

    def explain(self, server: str, problem: EngineError) -> str:
        """Return why a step failed on a server, with what an operator can do about it.

        Where that is not known it is the failure's own text.
        """


@runtime_checkable
class PasswordBackend(Protocol):
    """An engine whose servers have an admin login with a password that can be changed."""

    def set_admin_password(self, server: str, password: Secret, lease: Lease) -> None:
        """Change the password of our own login. After ``EngineRefused`` the old one is in force."""

    def try_admin_password(self, server: str, password: Secret) -> None:
        """Log in with a password of ours; raise an ``EngineError`` if that fails."""


#: Called with the step, the percent done of the whole job, and a message for people.
ReportProgress = Callable[[str, int, str], None]


class ContentRefused(Exception):
    """Text for the caller: what could not be loaded and why."""


class Files(Protocol):
    """The file system of a sandbox that has not started yet. Paths are absolute."""

    def make_directory(self, path: str) -> None:
        """Make a directory and the ones above it, all the sandbox user's own."""

    def put(self, path: str, source: BinaryIO, size: int) -> None:
        """Write a file of ``size`` bytes; its size never matters to memory."""


class Content(Protocol):
    """What a sandbox has from its start."""

    #: Installed, in this order, once the sandbox runs.
    packages: tuple[str, ...]

    def load(self, files: Files, report: ReportProgress) -> None:
        """Put everything in place; raise ``ContentRefused`` for what cannot be loaded."""


class SandboxBackend(Backend, Protocol):
    """An engine of containers that people work in (contract 8)."""

    def ports(self, server: str) -> range:
        """Return the ports that sandboxes on the server are published at."""

    def build(
        self,
        spec: Spec,
        password: Secret,
        lease: Lease,
        content: Content | None,
        report: ReportProgress,
    ) -> None:
        """Make the sandbox with its content; return when its page answers.

        The remains of an earlier try are removed first. Raises ``PortTaken``,
        ``ContentRefused``, or an ``EngineError`` with the reason.
        """

    def revive(self, spec: Spec) -> None:
        """Start a stopped sandbox again, and return when its page answers."""

    def leave_note(self, spec: Spec, text: str, lease: Lease) -> None:
        """Write ``EXPIRES.txt`` in the directory that people see, if the sandbox is there."""

    def activity(self, spec: Spec) -> dict[str, Any] | None:
        """Return ``connections``, ``busyKernels`` and ``lastActivity``; None when not running."""
