"""A new password for a server's admin login, while fronts and workers go on (admin_secrets).

The order is what makes it safe: the new password is recorded as pending before the server is
told, and in force only after a login with it. Wherever the process dies, one of the recorded
passwords works, or the configured one if none was ever in force; the next rotation of the server
finishes what was begun. Open admin connections stay; a process whose new connection is refused
reads the state again (`backends.admin`).
"""

import socket
import time

import structlog
from sqlalchemy.engine import make_url

from provisioning.backends.base import EngineError, EngineRefused, PasswordBackend
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.configuration.servers import Server, SQLServer
from provisioning.installation import Installation
from provisioning.state.claims import ClaimLost, Lease
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


def known_servers(installation: Installation) -> list[tuple[str, Server]]:
    """Return backend and configuration of every server, configured or registered."""
    found = [
        (backend, server)
        for backend, servers in installation.config.servers.items()
        for server in servers
    ]
    return [*found, *(("mysql", server) for server in installation.registry.servers() or ())]


def rotate_admin(installation: Installation, backend: str, name: str) -> None:
    """Give a server's admin login a new password.

    Raises ``RotationRefused``, or an ``EngineError`` with the old password or the pending one in
    force; a repeat finds out which.
    """
    engine = _require_possible(installation, backend, name)
    lease, pending = _claim(installation, backend, name)
    try:
        with installation.keeper.keep(lease):
            if pending is None or not _works(engine, name, pending):
                pending = _change(installation, engine, name, lease, pending)
            failpoint("rotate.verified")
            installation.admin_secrets.confirm(lease, pending)
    except ClaimLost:
        raise RotationRefused("this process was paused for too long; repeat it") from None
    failpoint("rotate.confirmed")
    log.info("admin_rotated", backend=backend, server=name)


def _change(
    installation: Installation,
    engine: PasswordBackend,
    name: str,
    lease: Lease,
    begun: Secret | None,
) -> Secret:
    """Record a password and tell the server; return it when a login with it has worked.

    What a rotation that died has recorded is used again: the server may yet take it.
    """
    secrets = installation.admin_secrets
    password = begun or _new_password()
    secrets.propose(lease, password)
    failpoint("rotate.proposed")
    try:
        engine.set_admin_password(name, password, lease)
    except EngineError as problem:
        # Only of a password that was never sent before is it certain that it is not in force.
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


def _new_password() -> Secret:
    # Password policies of servers often ask for a character of a fourth kind.
    return Secret(f"{generate_password().reveal()}-")


def _works(engine: PasswordBackend, name: str, password: Secret) -> bool:
    try:
        engine.try_admin_password(name, password)
    except EngineError:
        return False
    return True


def _claim(installation: Installation, backend: str, name: str) -> tuple[Lease, Secret | None]:
    """Take the server's turn, waiting for the claim of a rotation that died to run out."""
    seconds = installation.config["CLAIM_SECONDS"]
    end = time.monotonic() + seconds + 1
    while True:
        claimed = installation.admin_secrets.claim(backend, name, seconds)
        if claimed is not None:
            return claimed
        if time.monotonic() > end:
            raise RotationRefused("another rotation of this server is going on")
        time.sleep(CLAIM_PAUSE)


# What must not be locked out ------------------------------------------------------------


def _require_possible(installation: Installation, backend: str, name: str) -> PasswordBackend:
    servers = known_servers(installation)
    server = next((s for b, s in servers if (b, s.name) == (backend, name)), None)
    if server is None:
        raise RotationRefused(f"there is no {backend} server named '{name}'")
    engine = installation.backends[backend]
    if not isinstance(engine, PasswordBackend) or not isinstance(server, SQLServer):
        raise RotationRefused(NOTHING_TO_ROTATE.get(backend, f"{backend} has no admin password"))
    for other_backend, other in servers:
        if other is not server and isinstance(other, SQLServer) and _same_login(server, other):
            raise RotationRefused(
                f"{other_backend} server '{other.name}' has the same admin login and would be "
                "locked out: give each its own"
            )
    if _is_state_login(installation, server):
        raise RotationRefused(
            "STATE_URL has the same login and would be locked out: give each its own"
        )
    return engine


def _same_login(one: SQLServer, other: SQLServer) -> bool:
    return (one.user, one.port) == (other.user, other.port) and bool(
        _addresses(one.host) & _addresses(other.host)
    )


def _is_state_login(installation: Installation, server: SQLServer) -> bool:
    url = make_url(installation.config["STATE_URL"].reveal())
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
