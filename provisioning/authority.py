"""The authority that signs the certificates of an installation's sandboxes, kept in its state."""

import json

from sqlalchemy import select

from provisioning.backends.docker.certificate import Certificate, make_authority
from provisioning.bootstrap import insert_once
from provisioning.database import Database
from provisioning.models import Setting
from provisioning.vault import Sealed, Secret, Vault

AUTHORITY = "authority"


def read_authority(database: Database, vault: Vault) -> Certificate:
    """Return the authority, made at its first need; processes that race get the same one."""
    while (sealed := _stored(database)) is None:
        made = make_authority()
        values = {
            "certificate": made.certificate_pem.decode(),
            "private_key": made.private_key_pem.reveal(),
        }
        insert_once(
            database, Setting(name=AUTHORITY, value=vault.encrypt(Secret(json.dumps(values))))
        )
    values = json.loads(vault.decrypt(sealed).reveal())
    return Certificate(values["certificate"].encode(), Secret(values["private_key"]))


def _stored(database: Database) -> Sealed | None:
    with database.read() as session:
        found = session.scalars(select(Setting.value).where(Setting.name == AUTHORITY)).first()
    return None if found is None else Sealed(found)
