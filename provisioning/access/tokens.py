"""Who is calling: tokens to principals, by the Storage API or by local tokens (contract 5)."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import bindparam, select, update

from provisioning import errors
from provisioning.configuration.secrets import Secret
from provisioning.state.database import Database, next_numbers, now_ms, read_clock
from provisioning.state.events import OPERATOR, Action, record_operation
from provisioning.state.models import LocalToken

CACHED_TOKENS = 10_000
#: Widths of the columns that keep a copy of these texts.
ID_WIDTH, TEXT_WIDTH = 64, 255


@dataclass(frozen=True)
class Principal:
    """The verified caller: a token, its project and, where known, its person."""

    token_id: str
    token_description: str
    project_id: str
    project_name: str
    person_id: str | None = None
    features: frozenset[str] = frozenset()
    #: ``hasMysql`` and the like; a flag that was not told is not in here.
    flags: Mapping[str, bool] = field(default_factory=dict)
    #: The project's limits that are positive numbers, such as ``sandbox.expirationSeconds``.
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """One request's author: the principal, the token it came with, and its run id or ''."""

    principal: Principal
    token: Secret
    run_id: str = ""
    #: The operator's name in events, who acts for the owner.
    operator: str | None = None


class TokenVerifier(Protocol):
    """Turns a token into its principal, or raises why not."""

    def verify(self, token: Secret) -> Principal: ...


def digest_token(token: Secret) -> str:
    """Return the digest a token is known by; tokens are random, so it needs no salt."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()


# Local tokens ---------------------------------------------------------------------------


#: Built once, and of plain columns: every request runs it.
_GOOD_TOKEN = select(LocalToken.__table__).where(
    LocalToken.digest == bindparam("digest"), LocalToken.revoked_at.is_(None)
)


class LocalTokens:
    """Tokens of an installation without a Storage API (contract 5.4)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def verify(self, token: Secret) -> Principal:
        with self._database.connect() as connection:
            row = connection.execute(_GOOD_TOKEN, {"digest": digest_token(token)}).first()
        if row is None:
            raise errors.TokenInvalid
        return Principal(
            token_id=str(row.id),
            token_description=row.description,
            project_id=row.project_id,
            project_name=row.project_name,
            person_id=row.person_id,
            features=frozenset(row.features),
            limits=row.limits,
        )

    def create(
        self,
        *,
        project_id: str,
        project_name: str,
        person_id: str | None,
        description: str,
        features: list[str],
        limits: dict[str, int] | None = None,
        author: str = OPERATOR,
    ) -> tuple[int, Secret]:
        """Record a new token and return its id and its text, which is not kept."""
        with self._database.write() as session:
            (token_id,) = next_numbers(session, "token")
            token = Secret(f"{project_id}-{token_id}-{secrets.token_hex(20)}")
            session.add(
                LocalToken(
                    id=token_id,
                    digest=digest_token(token),
                    description=description,
                    project_id=project_id,
                    project_name=project_name,
                    person_id=person_id,
                    features=features,
                    limits=limits or {},
                    created_at=read_clock(session),
                )
            )
            made = {"id": str(token_id), "description": description, "features": features}
            record_operation(
                session,
                Action.TOKEN_CREATED,
                author,
                project_id=project_id,
                detail={**made, "person": person_id, "limits": limits or {}},
            )
        return token_id, token

    def list(self) -> list[LocalToken]:
        with self._database.read() as session:
            return list(session.scalars(select(LocalToken).order_by(LocalToken.id)))

    def revoke(self, token_id: int, author: str = OPERATOR) -> bool:
        """Refuse the token from now on; return whether it was good until now."""
        statement = (
            update(LocalToken)
            .where(LocalToken.id == token_id, LocalToken.revoked_at.is_(None))
            .values(revoked_at=now_ms())
        )
        with self._database.write() as session:
            revoked = session.connection().execute(statement).rowcount == 1
            if revoked:
                project_id = session.get_one(LocalToken, token_id).project_id
                detail = {"id": str(token_id)}
                record_operation(
                    session, Action.TOKEN_REVOKED, author, project_id=project_id, detail=detail
                )
        return revoked


# Storage API tokens ---------------------------------------------------------------------


class TokenClient(Protocol):
    """Asks the Storage API about a token."""

    def verify_token(self, token: Secret) -> dict[str, Any]:
        """Return the token as the Storage API describes it, or raise a domain error."""


class StorageTokens:
    """Tokens that the Storage API verifies, remembered for a short time (contract 5.1-5.3)."""

    def __init__(self, client: TokenClient, cache_seconds: int) -> None:
        self._client = client
        self._cache = TokenCache(cache_seconds)

    def verify(self, token: Secret) -> Principal:
        digest = digest_token(token)
        known = self._cache.get(digest)
        if known is not None:
            return known
        answer = self._client.verify_token(token)
        expires = _read_expiry(answer.get("expires"))
        if answer.get("isDisabled") is True or (expires is not None and expires <= time.time()):
            raise errors.TokenInvalid
        principal = _read_principal(answer)
        self._cache.put(digest, principal, expires)
        return principal


class TokenCache:
    """Successes only, each for at most ``seconds`` and never beyond its token's expiry."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def get(self, digest: str) -> Principal | None:
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            if entry[0] <= self._clock():
                del self._entries[digest]
                return None
            return entry[1]

    def put(self, digest: str, principal: Principal, expires: float | None) -> None:
        until = self._clock() + self._seconds
        if expires is not None:
            until = min(until, expires)
        with self._lock:
            self._entries[digest] = (until, principal)
            while len(self._entries) > CACHED_TOKENS:
                self._entries.popitem(last=False)


def _read_principal(answer: Mapping[str, Any]) -> Principal:
    owner = _mapping(answer.get("owner"))
    if owner.get("isDisabled") is True:
        raise errors.ProjectDisabled("contact support")
    token_id, project_id = _identifier(answer.get("id")), _identifier(owner.get("id"))
    if token_id is None or project_id is None:
        # Without both ids nothing can be owned: this is not a verification.
        raise errors.TokenServiceUnavailable(cause="its answer has no token or project")
    features = owner.get("features")
    return Principal(
        token_id=token_id,
        token_description=_text(answer.get("description")),
        project_id=project_id,
        project_name=_text(owner.get("name")),
        person_id=_identifier(_mapping(answer.get("admin")).get("id")),
        features=frozenset(map(str, features)) if isinstance(features, list) else frozenset(),
        flags={
            key: value
            for key, value in owner.items()
            if key.startswith("has") and isinstance(value, bool)
        },
        limits=_read_limits(owner.get("limits")),
    )


def _read_limits(limits: Any) -> dict[str, int]:
    found = {name: _mapping(limit).get("value") for name, limit in _mapping(limits).items()}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 0
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _identifier(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)[:ID_WIDTH] or None


def _text(value: Any) -> str:
    return value[:TEXT_WIDTH] if isinstance(value, str) else ""


def _read_expiry(value: Any) -> float | None:
    """Return the Unix time of an ISO date-time; one without an offset is UTC."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        # Its meaning is unknown, so nothing may be remembered beyond this request.
        return time.time() + 1
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
