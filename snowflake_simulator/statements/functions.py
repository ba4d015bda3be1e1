"""Functions that the simulator answers itself: the session's context, and SYSTEM$ control."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from snowflake_simulator import errors
from snowflake_simulator.execution import Execution
from snowflake_simulator.queries import Query
from snowflake_simulator.rights import OWNERSHIP, Securable

VERSION = "0.0 (simulator)"
REGION = "SIMULATOR"

Argument = str | float | int | None
_UNITS = {
    "DAYS": timedelta(days=1),
    "HOURS": timedelta(hours=1),
    "MINUTES": timedelta(minutes=1),
    "SECONDS": timedelta(seconds=1),
    "MILLISECONDS": timedelta(milliseconds=1),
    "MICROSECONDS": timedelta(microseconds=1),
    "NANOSECONDS": timedelta(microseconds=1) / 1000,
}


def _wait(execution: Execution, amount: Argument, unit: Argument = "SECONDS") -> str:
    length = _UNITS.get(str(unit).upper())
    if length is None or not isinstance(amount, int | float):
        raise errors.invalid_value(unit, "SYSTEM$WAIT")
    # NANOSECONDS round to zero length, which no clock here could tell apart.
    execution.query.wait(amount * length.total_seconds())
    return f"waited {amount} {str(unit).lower()}"


def _abort_session(execution: Execution, session_id: Argument) -> str:
    account = execution.account
    session = account.sessions.by_id(int(str(session_id)))
    if session is None:
        raise errors.invalid_value(session_id, "SYSTEM$ABORT_SESSION")
    with account.lock:
        own = session.user is execution.session.user
        if not own and not execution.is_admin:
            execution.require_ownership(Securable("USER", (session.user.name,)))
    account.end_session(session)
    return f"session [{session.id}] terminated."


def _cancel_all_queries(execution: Execution, session_id: Argument) -> str:
    wanted = int(str(session_id))
    with execution.account.lock:
        found = [query for query in execution.account.queries.running() if _is(query, wanted)]
        for query in found:
            _require_cancelling(execution, query)
    count = execution.account.queries.cancel(
        lambda query: _is(query, wanted) and query is not execution.query
    )
    return f"{count} cancelled."


def _is(query: Query, session_id: int) -> bool:
    return query.session.id == session_id


def _cancel_query(execution: Execution, query_id: Argument) -> str:
    with execution.account.lock:
        for query in execution.account.queries.running():
            if query.id == query_id:
                _require_cancelling(execution, query)
    if execution.account.queries.cancel(lambda query: query.id == query_id):
        return f"query [{query_id}] terminated."
    return "Identified SQL statement is not currently executing."


def _require_cancelling(execution: Execution, query: Query) -> None:
    """Queries are cancelled by their user, the user's owner and the warehouse's operators."""
    if query.session.user is execution.session.user:
        return
    if query.warehouse is not None:
        warehouse = Securable("WAREHOUSE", (query.warehouse,))
        if execution.allows("OPERATE", warehouse):
            return
    execution.require(OWNERSHIP, Securable("USER", (query.session.user.name,)))


def _available_roles(execution: Execution) -> str:
    granted = execution.account.rights.inherited(execution.session.user.roles)
    return str(sorted(granted)).replace("'", '"')


def _is_role_in_session(execution: Execution, role: Argument) -> str:
    return str(str(role) in execution.roles).upper()


#: Functions without arguments that tell where the session is.
CONTEXT: Mapping[str, Callable[[Execution], str | None]] = {
    "CURRENT_ACCOUNT": lambda execution: execution.account.name,
    "CURRENT_ACCOUNT_NAME": lambda execution: execution.account.name,
    "CURRENT_AVAILABLE_ROLES": _available_roles,
    "CURRENT_CLIENT": lambda execution: execution.session.client,
    "CURRENT_DATABASE": lambda execution: execution.current_database,
    "CURRENT_REGION": lambda _: REGION,
    "CURRENT_ROLE": lambda execution: execution.session.role,
    "CURRENT_SCHEMA": lambda execution: execution.current_schema,
    "CURRENT_SESSION": lambda execution: str(execution.session.id),
    "CURRENT_STATEMENT": lambda execution: execution.query.text,
    "CURRENT_USER": lambda execution: execution.session.user.name,
    "CURRENT_VERSION": lambda _: VERSION,
    "CURRENT_WAREHOUSE": lambda execution: execution.current_warehouse,
    "LAST_QUERY_ID": lambda execution: execution.session.last_query_id,
}
#: Functions that do something; they run outside the account's lock.
CONTROL: Mapping[str, Callable[..., str]] = {
    "IS_ROLE_IN_SESSION": _is_role_in_session,
    "SYSTEM$ABORT_SESSION": _abort_session,
    "SYSTEM$CANCEL_ALL_QUERIES": _cancel_all_queries,
    "SYSTEM$CANCEL_QUERY": _cancel_query,
    "SYSTEM$WAIT": _wait,
}


def is_known(name: str) -> bool:
    return name in CONTEXT or name in CONTROL


def evaluate(execution: Execution, name: str, arguments: Sequence[Argument]) -> str | None:
    if name in CONTEXT:
        with execution.account.lock:
            return CONTEXT[name](execution)
    try:
        return CONTROL[name](execution, *arguments)
    except (TypeError, ValueError) as error:
        raise errors.invalid_value(list(arguments), name) from error
