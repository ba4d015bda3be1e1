"""Brings everything that the state holds encrypted under the first of ENCRYPTION_KEYS.

Fronts and workers go on meanwhile: a value that is changed under our hands is left alone, rows
that others hold are not waited for, and what they still write under an older key is found by
another round. A run that is ended anywhere is simply started again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, select, true, update

from provisioning.configuration.secrets import Sealed, Vault
from provisioning.errors import ConfigurationError
from provisioning.state.database import Database
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Base, SealedText, Setting

#: Values that are looked at in one go, and changed in one transaction.
BATCH = 100
#: Rounds until it counts as settled that somebody still writes under an older key, and the
#: seconds between two of them.
ROUNDS, PAUSE = 10, 0.5


@dataclass(frozen=True)
class SealedColumn:
    """A column with encrypted values, in the rows that meet a condition."""

    table: Table
    name: str
    condition: ColumnElement[bool]

    def __str__(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def key(self) -> ColumnElement[Any]:
        (key,) = self.table.primary_key.columns
        return key

    @property
    def value(self) -> ColumnElement[Any]:
        return self.table.c[self.name]


@dataclass
class Tally:
    """What a round has found in one column so far."""

    looked: int = 0
    #: Under an older key, now or a moment ago.
    old: int = 0
    #: Under a key that is not configured.
    unreadable: int = 0


ProgressCallback = Callable[[SealedColumn, Tally], None]


def sealed_columns() -> list[SealedColumn]:
    """Return every column with encrypted values, as the models say."""
    columns = [
        SealedColumn(table, column.name, true())
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, SealedText)
    ]
    settings = Setting.__table__
    assert isinstance(settings, Table)
    return [*columns, SealedColumn(settings, "value", Setting.name.in_(Setting.SEALED))]


def rotate_keys(database: Database, vault: Vault, report: ProgressCallback) -> dict[str, Tally]:
    """Re-encrypt what is not under the first key; return by column what could not be.

    ``report`` is called after each batch. An empty answer says that the other keys are
    not needed any more: a whole round found nothing under them.
    """
    for left in range(ROUNDS, 0, -1):
        found = {
            str(column): _rotate(database, vault, column, report) for column in sealed_columns()
        }
        if not any(tally.old for tally in found.values()):
            break
        if left > 1:
            time.sleep(PAUSE)
    return {name: tally for name, tally in found.items() if tally.old or tally.unreadable}


def _rotate(
    database: Database, vault: Vault, column: SealedColumn, report: ProgressCallback
) -> Tally:
    tally = Tally()
    last = None
    while batch := _read(database, column, last):
        last = batch[-1][0]
        changes = {}
        for key, sealed in batch:
            tally.looked += 1
            if vault.is_current(sealed):
                continue
            try:
                changes[key] = (sealed, vault.encrypt(vault.decrypt(sealed)))
                tally.old += 1
            except ConfigurationError:
                tally.unreadable += 1
        if changes:
            start = time.monotonic()
            _write(database, column, changes)
            failpoint("keys.batch")
            # Half of the time is the others': in SQLite, one writes at a time.
            time.sleep(time.monotonic() - start)
            report(column, tally)
    return tally


def _read(database: Database, column: SealedColumn, last: Any) -> list[tuple[Any, Sealed]]:
    """Return the next keys and values after the key ``last``."""
    query = (
        select(column.key, column.value)
        .where(column.condition, column.value != "")
        .order_by(column.key)
        .limit(BATCH)
    )
    if last is not None:
        query = query.where(column.key > last)
    with database.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def _write(
    database: Database, column: SealedColumn, changes: dict[Any, tuple[Sealed, Sealed]]
) -> None:
    """Replace values that are still the same, in rows that nobody holds.

    Waiting for one row with locks on others in hand could end in a deadlock, and not we but a
    request might be its victim.
    """
    free = select(column.key).where(column.key.in_(changes)).with_for_update(skip_locked=True)
    with database.write() as session:
        connection = session.connection()
        for (key,) in connection.execute(free).all():
            before, after = changes[key]
            connection.execute(
                update(column.table)
                .where(column.key == key, column.value == before)
                .values({column.name: after})
            )
