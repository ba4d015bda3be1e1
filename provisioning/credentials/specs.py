"""What a row is to its backend."""

from dataclasses import replace
from typing import Any

from provisioning.backends.base import Backend, EngineUnavailable, IssuedPassword, Spec
from provisioning.installation import Installation
from provisioning.state.models import Credentials


def spec_of(row: Credentials) -> Spec:
    """Return what a backend needs to know of a row."""
    return Spec(
        row.id,
        row.type,
        row.server,
        row.user_name,
        row.object_name,
        row.ends_at,
        port=row.port,
        public_key=row.public_key,
        password_ends_at=row.password_ends_at,
    )


def complete_spec_of(installation: Installation, row: Credentials) -> Spec:
    """Return the spec with the private key, for a creation or the answer to the owner."""
    key = None if row.private_key is None else installation.vault.decrypt(row.private_key)
    return replace(spec_of(row), private_key=key)


def issued_columns(installation: Installation, issued: IssuedPassword | None) -> dict[str, Any]:
    """Return what the row keeps of a password that the server chose, if it did."""
    if issued is None:
        return {}
    return {
        "secret": installation.vault.encrypt(issued.password),
        "password_ends_at": issued.ends_at,
    }


def backend_of(installation: Installation, row: Credentials) -> Backend:
    """Return the row's backend; raise ``EngineUnavailable`` if it is not configured any more."""
    try:
        return installation.backends[row.backend]
    except KeyError:
        raise EngineUnavailable(f"backend {row.backend} is not configured") from None
