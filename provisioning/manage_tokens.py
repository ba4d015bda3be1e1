"""Who may operate the service over HTTP: management tokens (contract 11.4)."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from provisioning import errors
from provisioning.database import Database, next_numbers, now_ms, read_clock
from provisioning.models import ManageToken
from provisioning.pace import Pace
from provisioning.tokens import ID_WIDTH, digest_token
from provisioning.vault import Secret

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
        return f"operator:{self.id}"[:ID_WIDTH]


class ManageTokens:
    """The management tokens of an installation; their texts are not kept.

    They are found by a digest, so the time of a look tells nothing about their texts.
    """

    def __init__(self, database: Database, calls_per_minute: int = 0) -> None:
        self._database = database
        self._calls = Pace(calls_per_minute)
        self._tries = Pace(WRONG_TRIES)
        #: Digests that were good once: who tries others does not lock their owners out.
        self._known: set[str] = set()

    def verify(self, token: Secret, run_id: str = "") -> Operator:
        """Return whose token it is; raise ``ManageTokenInvalid`` or ``RateLimited``."""
        digest = digest_token(token)
        wait = 0 if digest in self._known else self._tries.left(_WRONG)
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

    def create(self, description: str) -> tuple[int, Secret]:
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
        return token_id, token

    def list(self) -> Sequence[ManageToken]:
        """Return all tokens, also the revoked ones."""
        with self._database.read() as session:
            return session.scalars(select(ManageToken).order_by(ManageToken.id)).all()

    def revoke(self, token_id: int) -> bool:
        """Refuse the token from now on; return False if there is no good one of the id."""
        statement = (
            update(ManageToken)
            .where(ManageToken.id == token_id, ManageToken.revoked_at.is_(None))
            .values(revoked_at=now_ms())
        )
        with self._database.write() as session:
            return session.connection().execute(statement).rowcount == 1
