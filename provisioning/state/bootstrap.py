"""What a state database needs before the first request."""

import secrets
import string
from collections.abc import Callable

from sqlalchemy import select

from provisioning.configuration.secrets import Sealed, Secret, Vault
from provisioning.state.database import Database, insert_if_absent
from provisioning.state.models import Sequence, Setting

SEQUENCES = (
    "credentials",
    "ticket",
    "token",
    "manage token",
    "server",
    "admin secret",
    "clock",
    "confirmed",
)
CODE_LENGTH = 4


def prepare_state(database: Database) -> None:
    """Migrate the schema and record what is decided once; safe to repeat and to race."""
    database.upgrade()
    for name in SEQUENCES:
        insert_once(database, Sequence(name=name, value=0))
    insert_once(database, Setting(name="code", value=_make_code()))


def read_code(database: Database) -> str:
    """Return the installation's code, which never changes once `prepare_state` made it."""
    with database.read() as session:
        query = select(Setting.value).where(Setting.name == "code")
        return session.execute(query).scalar_one()


def read_sealed(database: Database, vault: Vault, name: str, make: Callable[[], Secret]) -> Secret:
    """Return a secret of the installation, made at its first need and kept encrypted.

    Processes that race get the same one. ``name`` is one of `Setting.SEALED`.
    """
    while (sealed := _stored(database, name)) is None:
        insert_once(database, Setting(name=name, value=vault.encrypt(make())))
    return vault.decrypt(sealed)


def _stored(database: Database, name: str) -> Sealed | None:
    with database.read() as session:
        found = session.scalars(select(Setting.value).where(Setting.name == name)).first()
    return None if found is None else Sealed(found)


def _make_code() -> str:
    """Return the installation's code: a letter, then letters and digits (contract 10)."""
    rest = string.ascii_lowercase + string.digits
    return secrets.choice(string.ascii_lowercase) + "".join(
        secrets.choice(rest) for _ in range(CODE_LENGTH - 1)
    )


def insert_once(database: Database, row: Sequence | Setting) -> None:
    """Record a row unless one of its name is there; safe to race."""
    model = type(row)
    insert_if_absent(database, select(model.name).where(model.name == row.name), lambda _: row)
