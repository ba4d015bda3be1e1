"""Sessions: tokens, the context that names are looked up in, and the end."""

import secrets
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from snowflake_simulator import errors
from snowflake_simulator.clock import Clock
from snowflake_simulator.engine import Connection, Engine
from snowflake_simulator.reader import Value
from snowflake_simulator.results import Result
from snowflake_simulator.users import PARAMETERS, User

#: Ended sessions that are remembered.
REMEMBERED = 2_000
#: Results that RESULT_SCAN can go back to, per session.
RESULTS_KEPT = 5


@dataclass
class Session:
    id: int
    user: User
    token: str
    master_token: str
    created_on: datetime
    token_expires: datetime
    master_expires: datetime
    method: str
    role: str
    #: Whether all roles of the user count beside the primary one.
    secondary_roles: bool = True
    #: A token's role restriction, which the session cannot leave.
    restricted: bool = False
    database: str | None = None
    schema: str | None = None
    warehouse: str | None = None
    parameters: dict[str, Value] = field(default_factory=dict)
    client: str = ""
    last_query_id: str | None = None
    results: OrderedDict[str, Result] = field(default_factory=OrderedDict)
    ended_on: datetime | None = None
    _connection: Connection | None = None

    def parameter(self, name: str) -> Value:
        return self.parameters.get(name, PARAMETERS.get(name))

    def connection(self, engine: Engine) -> Connection:
        """Return the connection to the tables, opened when it is first needed."""
        if self._connection is None:
            self._connection = engine.connect()
        return self._connection

    def remember(self, query_id: str, result: Result) -> None:
        self.last_query_id = query_id
        self.results[query_id] = result
        while len(self.results) > RESULTS_KEPT:
            self.results.popitem(last=False)

    def close(self, now: datetime) -> None:
        self.ended_on = now
        self.results.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Sessions:
    """The open sessions by token, and the latest of those that ended."""

    def __init__(self, clock: Clock, validity: float, master_validity: float) -> None:
        self._clock = clock
        self.validity = validity
        self.master_validity = master_validity
        self._by_token: dict[str, Session] = {}
        self._by_id: dict[int, Session] = {}
        self._ended: deque[Session] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def open(self, user: User, role: str, method: str) -> Session:
        now = self._clock.now()
        session = Session(
            id=secrets.randbelow(10**14) + 10**14,
            user=user,
            token=secrets.token_urlsafe(32),
            master_token=secrets.token_urlsafe(32),
            created_on=now,
            token_expires=now + timedelta(seconds=self.validity),
            master_expires=now + timedelta(seconds=self.master_validity),
            method=method,
            role=role,
            parameters=dict(user.parameters),
        )
        with self._lock:
            self._by_token[session.token] = session
            self._by_id[session.id] = session
        return session

    def find(self, token: str) -> Session:
        """Return the session of a token that may still be used."""
        with self._lock:
            session = self._by_token.get(token)
        if session is None or session.user.dropped:
            raise errors.session_gone()
        if session.user.disabled:
            raise errors.user_disabled()
        if self._clock.now() >= session.token_expires:
            raise errors.session_token_expired()
        return session

    def renew(self, master_token: str, old_token: str) -> Session:
        """Give a session a new token in exchange for the old one and the master token."""
        now = self._clock.now()
        with self._lock:
            session = self._by_token.get(old_token)
            if session is None or not secrets.compare_digest(session.master_token, master_token):
                raise errors.session_gone()
            if now >= session.master_expires:
                raise errors.master_token_expired()
            del self._by_token[old_token]
            session.token = secrets.token_urlsafe(32)
            session.token_expires = now + timedelta(seconds=self.validity)
            session.master_expires = now + timedelta(seconds=self.master_validity)
            self._by_token[session.token] = session
        return session

    def by_id(self, session_id: int) -> Session | None:
        with self._lock:
            return self._by_id.get(session_id)

    def of_user(self, name: str) -> list[Session]:
        return [session for session in self.open_sessions() if session.user.name == name]

    def open_sessions(self) -> list[Session]:
        with self._lock:
            return list(self._by_id.values())

    def known(self) -> list[Session]:
        """Return the sessions that are open and those that ended lately."""
        with self._lock:
            return [*self._ended, *self._by_id.values()]

    def forget(self, session: Session) -> bool:
        """Take a session out; False when it was out already."""
        with self._lock:
            if self._by_id.pop(session.id, None) is None:
                return False
            self._by_token.pop(session.token, None)
            self._ended.append(session)
            return True
