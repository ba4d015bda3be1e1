"""What the state keeps of the passwords of admin logins that were rotated."""

from collections.abc import Sequence

import structlog
from sqlalchemy import ColumnElement, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from provisioning.configuration.secrets import Secret, Vault
from provisioning.errors import ConfigurationError, StateUnavailable
from provisioning.state.claims import Lease, take
from provisioning.state.database import Database, insert_if_absent, next_numbers, now_ms
from provisioning.state.models import AdminSecret

log = structlog.get_logger()


class AdminSecrets:
    """The recorded passwords, by backend and server."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def recorded(self, backend: str, server: str) -> Sequence[Secret]:
        """Return the passwords that may be in force, the most likely first; often none."""
        query = select(AdminSecret).where(_of(backend, server))
        try:
            with self._database.read() as session:
                row = session.scalars(query).first()
        except (StateUnavailable, DBAPIError):
            # Without a state, or before its tables were made, the configured one is tried.
            log.warning("admin_secrets_not_read", backend=backend, server=server)
            return ()
        if row is None:
            return ()
        try:
            return [self._vault.decrypt(sealed) for sealed in (row.secret, row.pending) if sealed]
        except ConfigurationError as problem:
            log.error(
                "admin_secrets_not_read", backend=backend, server=server, failure=str(problem)
            )
            return ()

    def claim(self, backend: str, server: str, seconds: int) -> tuple[Lease, Secret | None] | None:
        """Claim the server's row; return the pending password too, or None if others hold it."""
        self._ensure_row(backend, server)
        with self._database.write() as session:
            row = session.scalars(select(AdminSecret).where(_of(backend, server))).one()
            lease = take(session, AdminSecret, row.id, seconds)
            session.refresh(row)
        if lease is None:
            return None
        return lease, self._vault.decrypt(row.pending) if row.pending else None

    def propose(self, lease: Lease, password: Secret) -> None:
        """Record the password before the server gets it."""
        with self._database.write() as session:
            lease.write(session, pending=self._vault.encrypt(password))

    def confirm(self, lease: Lease, password: Secret) -> None:
        """Record that the server has taken the pending password, and give the claim back."""
        sealed = self._vault.encrypt(password)
        with self._database.write() as session:
            lease.close(session, secret=sealed, pending=None, rotated_at=now_ms())

    def withdraw(self, lease: Lease) -> None:
        """Record that the server did not take the password, and give the claim back."""
        with self._database.write() as session:
            lease.close(session, pending=None)

    def release(self, lease: Lease) -> None:
        """Give the claim back with everything as it is."""
        with self._database.write() as session:
            lease.close(session)

    def _ensure_row(self, backend: str, server: str) -> None:
        def make(session: Session) -> AdminSecret:
            (number,) = next_numbers(session, "admin secret")
            return AdminSecret(id=number, backend=backend, server=server)

        insert_if_absent(self._database, select(AdminSecret.id).where(_of(backend, server)), make)


def _of(backend: str, server: str) -> ColumnElement[bool]:
    return (AdminSecret.backend == backend) & (AdminSecret.server == server)
