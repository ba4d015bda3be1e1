"""A new password for a server's admin login, while fronts and workers go on (admin_secrets).

The order makes it safe. The new password is recorded as pending before the server gets it, and as
in force only after a login with it. Wherever the process dies, one of the recorded passwords
works, or the configured one if none was ever in force. The next rotation of the server finishes
the interrupted one. Open admin connections stay. A process whose new connection is refused reads
the state again (`servers.admin_password`).
"""

import socket
import time
from collections.abc import Mapping
from typing import Protocol

import structlog
from sqlalchemy.engine import make_url

from provisioning.backends.base import Backend, EngineError, EngineRefused, PasswordBackend
from provisioning.backends.mysql.registry import Registry
from provisioning.backends.servers.admin_secrets import AdminSecrets
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.configuration.servers import ServerConfig, SQLServer
from provisioning.state.claims import ClaimLost, Keeper, Lease
from provisioning.state.failpoints import failpoint

log = structlog.get_logger()

#: Why the admin of a backend's servers has no password that could be rotated here.
NOTHING_TO_ROTATE = {
    "docker": "an engine has no admin password: who reaches its address is its admin",
    "snowflake": (
        "a user is locked after a few refused logins, so its password cannot change under running "
        "processes: give the admin a key pair, and a second one to replace it"
    ),
}
#: Ports of state databases whose URL has none.
STATE_PORTS = {"postgresql": 5432, "mysql": 3306}
#: Seconds between two tries to take over from a rotation that died.
CLAIM_PAUSE = 0.2


class RotationRefused(Exception):
    """The password stays as it is; the text says why."""


class RotationParts(Protocol):
    """The parts of an installation that a rotation needs."""

    @property
    def config(self) -> Config: ...

    @property
    def backends(self) -> Mapping[str, Backend]: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def admin_secrets(self) -> AdminSecrets: ...

    @property
    def keeper(self) -> Keeper: ...


def known_servers(parts: RotationParts) -> list[tuple[str, ServerConfig]]:
    """Return backend and configuration of every server, configured or registered."""
    found = [
        (backend, server) for backend, servers in parts.config.servers.items() for server in servers
    ]
    return [*found, *(("mysql", server) for server in parts.registry.servers() or ())]


def rotate_admin(parts: RotationParts, backend: str, name: str) -> None:
    """Give a server's admin login a new password.

    Raises ``RotationRefused``, or an ``EngineError`` with the old password or the pending one in
    force; a repeat finds out which.
    """
    engine = _require_possible(parts, backend, name)
    lease, pending = _claim(parts, backend, name)
    try:
        with parts.keeper.keep(lease):
            if pending is None or not _works(engine, name, pending):
                pending = _change(parts, engine, name, lease, pending)
            failpoint("rotate.verified")
            parts.admin_secrets.confirm(lease, pending)
    except ClaimLost:
        raise RotationRefused("this process was paused for too long; repeat it") from None
    failpoint("rotate.confirmed")
    log.info("admin_rotated", backend=backend, server=name)


def _change(
    parts: RotationParts,
    engine: PasswordBackend,
    name: str,
    lease: Lease,
    begun: Secret | None,
) -> Secret:
    """Record a password and change it on the server; return it once a login with it worked.

    A password that an interrupted rotation recorded is used again: the server may have it.
    """
    secrets = parts.admin_secrets
    password = begun or generate_password()
    secrets.propose(lease, password)
    failpoint("rotate.proposed")
    try:
        engine.set_admin_password(name, password, lease)
    except EngineError as problem:
        # Only a password that was never sent before is certainly not in force.
        if begun is None and isinstance(problem, EngineRefused):
            secrets.withdraw(lease)
        else:
            secrets.release(lease)
        raise
    failpoint("rotate.told")
    try:
        engine.try_admin_password(name, password)
    except EngineError:
        secrets.release(lease)
        raise
    return password


def _works(engine: PasswordBackend, name: str, password: Secret) -> bool:
    try:
        engine.try_admin_password(name, password)
    except EngineError:
        return False
    return True


def _claim(parts: RotationParts, backend: str, name: str) -> tuple[Lease, Secret | None]:
    """Take the server's turn, waiting for the claim of a rotation that died to run out."""
    seconds = parts.config.claim_seconds
    end = time.monotonic() + seconds + 1
    while True:
        claimed = parts.admin_secrets.claim(backend, name, seconds)
        if claimed is not None:
            return claimed
        if time.monotonic() > end:
            raise RotationRefused("another rotation of this server is going on")
        time.sleep(CLAIM_PAUSE)


# What must not be locked out ------------------------------------------------------------


def _require_possible(parts: RotationParts, backend: str, name: str) -> PasswordBackend:
    servers = known_servers(parts)
    server = next((s for b, s in servers if (b, s.name) == (backend, name)), None)
    if server is None:
        raise RotationRefused(f"there is no {backend} server named '{name}'")
    engine = parts.backends[backend]
    if not isinstance(engine, PasswordBackend) or not isinstance(server, SQLServer):
        raise RotationRefused(NOTHING_TO_ROTATE.get(backend, f"{backend} has no admin password"))
    for other_backend, other in servers:
        if other is not server and isinstance(other, SQLServer) and _same_login(server, other):
            raise RotationRefused(
                f"{other_backend} server '{other.name}' has the same admin login and would be "
                "locked out: give each its own"
            )
    if _is_state_login(parts, server):
        raise RotationRefused(
            "STATE_URL has the same login and would be locked out: give each its own"
        )
    return engine


def _same_login(one: SQLServer, other: SQLServer) -> bool:
    return (one.user, one.port) == (other.user, other.port) and bool(
        _addresses(one.host) & _addresses(other.host)
    )


def _is_state_login(parts: RotationParts, server: SQLServer) -> bool:
    url = make_url(parts.config.state_url.reveal())
    port = url.port or STATE_PORTS.get(url.get_backend_name())
    return (url.username, port) == (server.user, server.port) and bool(
        _addresses(url.host or "localhost") & _addresses(server.host)
    )


def _addresses(host: str) -> set[str]:
    """Return the addresses of a host, or its name when it has none: two names may be one host."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return {host.lower()}
