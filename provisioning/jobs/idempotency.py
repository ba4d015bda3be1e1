"""Idempotency keys: a request that is repeated with its key gets the job of the first one.

A create is harmless to repeat while its sandbox lives (contract 8.4.3). With a key it is so
for a day, whatever became of the sandbox, and without a second job. Two repeats at the same
moment are decided by the primary key.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.state.database import Database, now_ms
from provisioning.state.models import Job, RequestKey

HEADER = "Idempotency-Key"
#: Milliseconds that a key is kept: a day.
KEPT = 24 * 3600 * 1000
#: Keys that one sweep forgets: few, since it holds up the writes of others.
FORGET_BATCH = 500
_KEY = re.compile("[!-~]{1,255}")


class KeyTaken(Exception):
    """Another request with the key was recorded meanwhile."""


@dataclass(frozen=True)
class SentKey:
    """A key as it came with a request: digests of whose it is, and of the body."""

    digest: str
    body: str


def read_key(text: str, token_id: str, body: dict[str, Any]) -> SentKey | None:
    """Return the key of a request, None without one; raise ``ParameterInvalid``."""
    if not text.strip():
        return None
    if not _KEY.fullmatch(text):
        raise errors.ParameterInvalid(HEADER, "1 to 255 visible ASCII characters are expected")
    # Texts without order or spaces of their own, so that equal requests are equal.
    return SentKey(_digest([token_id, text]), _digest(body))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def record_once(database: Database, key: SentKey | None, record: Callable[[], Job]) -> Job:
    """Return the job of an earlier request with the key, else what ``record`` records with it.

    Raises ``ParameterInvalid`` if the earlier request had another body.
    """
    while True:
        repeated = None if key is None else _find_repeated(database, key)
        if repeated is not None:
            return repeated
        with suppress(KeyTaken):
            return record()


def _find_repeated(database: Database, key: SentKey) -> Job | None:
    query = (
        select(Job, RequestKey.body)
        .join(RequestKey, RequestKey.job_id == Job.id)
        .where(RequestKey.digest == key.digest, RequestKey.created_at > now_ms() - KEPT)
    )
    with database.read() as session:
        found = session.execute(query).first()
    if found is None:
        return None
    if found.body != key.body:
        raise errors.ParameterInvalid(HEADER, "it came with another body before")
    job: Job = found.Job
    return job


def record_key(session: Session, key: SentKey, job: Job) -> None:
    """Add the key of a new job, in the caller's transaction; raise ``KeyTaken``."""
    gone = ~exists().where(Job.id == RequestKey.job_id)
    session.execute(
        delete(RequestKey)
        .where(RequestKey.digest == key.digest, or_(_is_old(), gone))
        .execution_options(synchronize_session=False)
    )
    session.add(
        RequestKey(digest=key.digest, body=key.body, job_id=job.id, created_at=job.created_at)
    )
    try:
        session.flush()
    except IntegrityError:
        raise KeyTaken from None


def forget_old_keys(database: Database) -> None:
    """Remove a batch of the keys that are not kept any longer; the next sweep goes on."""
    old = (
        select(RequestKey.digest)
        .where(_is_old())
        .order_by(RequestKey.created_at)
        .limit(FORGET_BATCH)
    )
    with database.read() as session:
        found = sorted(session.scalars(old))
    if not found:
        return
    with database.write() as session:
        # One of them may have been used again meanwhile.
        session.execute(delete(RequestKey).where(RequestKey.digest.in_(found), _is_old()))


def _is_old() -> Any:
    return RequestKey.created_at <= now_ms() - KEPT
