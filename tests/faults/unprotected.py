"""Fronts with one protection taken out each, to prove that the tests would notice.

Only the tests of this directory start them, as `gunicorn ... tests.faults.unprotected:<name>`.
"""

# ruff: noqa: B010 - plain assignments to functions of other modules are refused by mypy.
import uuid
from typing import Any

from flask import Flask
from sqlalchemy import delete
from sqlalchemy.orm import make_transient

from api.app import create_app
from provisioning.backends.mysql import backend as mysql
from provisioning.credentials import creation
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.installation import Installation
from provisioning.jobs import outcomes
from provisioning.state import claims
from provisioning.state.claims import Lease
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials


def without_fencing() -> Flask:
    """A paused process that wakes up late goes on as if its claim still held."""

    def trust(*_: Any) -> None:
        return None

    def write_regardless(self: Lease, session: Any, **values: Any) -> None:
        session.query(self.model).filter_by(id=self.row_id).update(values)

    setattr(claims.Lease, "check", trust)
    setattr(claims.Lease, "write", write_regardless)
    setattr(mysql, "_fence", trust)
    return create_app()


def without_intent() -> Flask:
    """Objects are made before the row that names them is committed."""

    def make_first(
        installation: Installation, row: Credentials, lease: Lease, _run_id: str
    ) -> None:
        with installation.database.write() as session:
            session.execute(delete(Credentials).where(Credentials.id == row.id))
        backend = backend_of(installation, row)
        backend.create(spec_of(row), installation.vault.decrypt(row.secret), lease)
        make_transient(row)
        row.state = CredentialsState.ACTIVE
        with installation.database.write() as session:
            session.add(row)

    setattr(creation, "finish_creation", make_first)
    return create_app()


def without_slots() -> Flask:
    """Nothing tells two creates of one token and type from two different ones."""

    def any_slot(token_id: str, backend: str, type_: str) -> str:
        return uuid.uuid4().hex

    setattr(creation, "slot_of", any_slot)
    setattr(outcomes, "slot_of", any_slot)
    return create_app()
