"""Who may operate the service over HTTP: management tokens (contract 11.4)."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from provisioning import errors
from provisioning.access.tokens import ID_WIDTH, digest_token
from provisioning.configuration.secrets import Secret
from provisioning.state.database import Database, next_numbers, now_ms, read_clock
from provisioning.state.events import OPERATOR, Action, record_operation
from provisioning.state.models import ManageToken

#: Wrong tokens that a process looks up in a minute.
WRONG_TRIES = 20
_WRONG = "wrong"


@dataclass(frozen=True)
class Operator:
    """Who operates the service: the id of a management token, or the name of a user."""

    id: str
    description: str
    run_id: str = ""

    @property
    def author(self) -> str:
        """The name in events, where tokens of projects have their ids."""
        return f"{OPERATOR}:{self.id}"[:ID_WIDTH]


class ManageTokens:
    """The management tokens of an installation; their texts are not kept.

    They are found by a digest, so the time of a look tells nothing about their texts.
    """

    def __init__(self, database: Database, calls_per_minute: int = 0) -> None:
        self._database = database
        self._calls = RateLimit(calls_per_minute)
        self._tries = RateLimit(WRONG_TRIES)
        #: Digests that were good once: who tries others does not lock their owners out.
        self._known: set[str] = set()

    def verify(self, token: Secret, run_id: str = "") -> Operator:
        """Return whose token it is; raise ``ManageTokenInvalid`` or ``RateLimited``."""
        digest = digest_token(token)
        wait = 0 if digest in self._known else self._tries.wait_for(_WRONG)
        if wait:
            raise errors.RateLimited(wait)
        query = select(ManageToken).where(
            ManageToken.digest == digest, ManageToken.revoked_at.is_(None)
        )
        with self._database.read() as session:
            row = session.scalars(query).first()
        if row is None:
            self._known.discard(digest)
            self._tries.take(_WRONG)
            raise errors.ManageTokenInvalid
        self._known.add(digest)
        wait = self._calls.take(digest)
        if wait:
            raise errors.RateLimited(wait)
        return Operator(str(row.id), row.description, run_id)

    def create(self, description: str, author: str = OPERATOR) -> tuple[int, Secret]:
        """Record a new token and return its id and its text, which is not kept."""
        with self._database.write() as session:
            (token_id,) = next_numbers(session, "manage token")
            token = Secret(f"manage-{token_id}-{secrets.token_hex(20)}")
            session.add(
                ManageToken(
                    id=token_id,
                    digest=digest_token(token),
                    description=description,
                    created_at=read_clock(session),
                )
            )
            detail = {"id": str(token_id), "description": description}
            record_operation(session, Action.MANAGE_TOKEN_CREATED, author, detail=detail)
        return token_id, token

    def list(self) -> Sequence[ManageToken]:
        """Return all tokens, also the revoked ones."""
        with self._database.read() as session:
            return session.scalars(select(ManageToken).order_by(ManageToken.id)).all()

    def revoke(self, token_id: int, author: str = OPERATOR) -> bool:
        """Refuse the token from now on; return False if there is no good one of the id."""
        statement = (
            update(ManageToken)
            .where(ManageToken.id == token_id, ManageToken.revoked_at.is_(None))
            .values(revoked_at=now_ms())
        )
        with self._database.write() as session:
            revoked = session.connection().execute(statement).rowcount == 1
            if revoked:
                detail = {"id": str(token_id)}
                record_operation(session, Action.MANAGE_TOKEN_REVOKED, author, detail=detail)
        return revoked


MINUTE = 60


class RateLimit:
    """At most ``limit`` turns a minute for each key; 0 is no limit.

    Minutes begin at the same moment for all keys, so the counts of one are all that is kept.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def take(self, key: str) -> int:
        """Take a turn and return 0, or return the seconds until there is one again."""
        with self._lock:
            left = self._wait_for(key)
            if not left:
                self._counts[key] += 1
            return left

    def wait_for(self, key: str) -> int:
        """Return what `take` would, without taking a turn."""
        with self._lock:
            return self._wait_for(key)

    def _wait_for(self, key: str) -> int:
        minute, second = divmod(int(self._clock()), MINUTE)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        return MINUTE - second if 0 < self._limit <= self._counts[key] else 0
