"""Runs statements: each one is parsed, logged, limited and recorded."""

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from snowflake_simulator import errors, statements
from snowflake_simulator.account import Account
from snowflake_simulator.errors import SnowflakeError
from snowflake_simulator.execution import Execution
from snowflake_simulator.faults import Faults
from snowflake_simulator.lexer import Token, splice, string_literal, tokenize, without_secrets
from snowflake_simulator.queries import Query
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result
from snowflake_simulator.sessions import Session
from snowflake_simulator.users import LONGEST_STATEMENT

#: Statements kept in the log.
LOGGED = 20_000
_NUMERIC_TYPES = ("FIXED", "REAL", "BOOLEAN")

logger = logging.getLogger(__name__)


class Dispatcher:
    def __init__(self, account: Account, faults: Faults) -> None:
        self._account = account
        self._faults = faults
        self.log: deque[str] = deque(maxlen=LOGGED)

    def begin(self, session: Session, sql: str) -> Query:
        """Record a statement, which counts as running from now on."""
        account = self._account
        with account.lock:
            query = Query(session, _safe_text(sql), account.clock.now())
            context = Execution(account, session, query)
            query.user = session.user.name
            query.role = session.role
            query.database = context.current_database
            query.schema = context.current_schema
            query.warehouse = context.current_warehouse
            query.timeout = self._timeout(session, query.warehouse)
        self.log.append(query.text)
        account.queries.begin(query)
        return query

    def run(self, query: Query, sql: str, bindings: Mapping[str, Any]) -> Result:
        """Run a statement that was begun; its end is recorded whatever happens."""
        error: SnowflakeError | None = None
        try:
            result = self._execute(query, sql, bindings)
            query.rows = len(result.rows)
            query.session.remember(query.id, result)
            return result
        except SnowflakeError as raised:
            error = query.ending or raised
            raise error from raised
        except Exception as raised:
            logger.exception("a statement failed inside the simulator")
            error = SnowflakeError(
                "000603", "XX000", f"SQL execution internal error: {type(raised).__name__}"
            )
            raise error from raised
        finally:
            self._account.queries.finish(query, error)

    def _execute(self, query: Query, sql: str, bindings: Mapping[str, Any]) -> Result:
        self._faults.strike(sql, after=False)
        tokens = tokenize(sql)
        if bindings:
            sql = _bind(sql, tokens, bindings)
            tokens = tokenize(sql)
        sql, tokens = _single(sql, tokens)
        execution = Execution(self._account, query.session, query)
        result = statements.run(execution, Reader(sql, tokens))
        query.go_on()
        self._faults.strike(sql, after=True)
        return result

    def _timeout(self, session: Session, warehouse: str | None) -> int:
        """Return the seconds a statement may run: the session's limit or the warehouse's."""
        own = int(str(session.parameter("STATEMENT_TIMEOUT_IN_SECONDS"))) or LONGEST_STATEMENT
        if warehouse is None:
            return own
        return min(own, self._account.catalog.warehouses[warehouse].statement_timeout or own)


def _safe_text(sql: str) -> str:
    try:
        return without_secrets(sql, tokenize(sql))
    except SnowflakeError:
        # Without tokens nothing tells the secrets from the rest.
        return sql.split(maxsplit=1)[0] + " ..." if sql.strip() else ""


def _single(sql: str, tokens: list[Token]) -> tuple[str, list[Token]]:
    """Return the text and tokens without closing semicolons; several statements are refused."""
    inner = [token for token in tokens if token.kind != "end"]
    while inner and inner[-1].is_symbol(";"):
        inner.pop()
    count = 1 + sum(token.is_symbol(";") for token in inner)
    if count > 1:
        raise errors.several_statements(count)
    end = inner[-1].end if inner else 0
    return sql[:end], [*inner, Token("end", "", end)]


def _bind(sql: str, tokens: list[Token], bindings: Mapping[str, Any]) -> str:
    """Replace the marks in the statement with the values that the client sent beside it."""
    marks = [token for token in tokens if token.is_symbol("?")]
    if len(marks) != len(bindings):
        raise errors.syntax_error(0, "?")
    replacements = []
    for number, mark in enumerate(marks, start=1):
        binding = bindings[str(number)]
        value = binding.get("value")
        if value is None:
            literal = "NULL"
        elif binding.get("type") in _NUMERIC_TYPES:
            literal = str(value)
        else:
            literal = string_literal(str(value))
        replacements.append((mark, literal))
    return splice(sql, replacements)
