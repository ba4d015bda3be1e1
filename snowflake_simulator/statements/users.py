"""CREATE, ALTER, DROP and DESCRIBE USER."""

from snowflake_simulator import errors, names
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader, Value
from snowflake_simulator.results import Column, Result, listed, status
from snowflake_simulator.rights import ACCOUNT, Securable
from snowflake_simulator.statements import access_tokens
from snowflake_simulator.users import PARAMETERS, User

#: What users may change of their own account.
_OWN_PROPERTIES = {
    "DEFAULT_NAMESPACE",
    "DEFAULT_ROLE",
    "DEFAULT_SECONDARY_ROLES",
    "DEFAULT_WAREHOUSE",
    *PARAMETERS,
}


def securable(name: str) -> Securable:
    return Securable("USER", (name,))


def create(execution: Execution, reader: Reader) -> Result:
    unless_exists = reader.accept("IF NOT EXISTS") is not None
    name = reader.plain_name()
    changes = reader.properties()
    reader.end()
    execution.require("CREATE USER", ACCOUNT)
    if name in execution.account.users:
        if unless_exists:
            return status(f"{name} already exists, statement succeeded.")
        raise errors.exists(names.show((name,)))
    return _create(execution, name, changes)


def replace(execution: Execution, reader: Reader) -> Result:
    name = reader.plain_name()
    changes = reader.properties()
    reader.end()
    execution.require("CREATE USER", ACCOUNT)
    if name in execution.account.users:
        execution.require_ownership(securable(name))
        _remove(execution, execution.account.users[name])
    return _create(execution, name, changes)


def _create(execution: Execution, name: str, changes: dict[str, Value]) -> Result:
    account = execution.account
    user = User(name, execution.now)
    user.apply(changes, execution.now)
    if any(other.login_name == user.login_name for other in account.users.values()):
        raise errors.exists(user.login_name)
    account.users[name] = user
    account.rights.set_owner(securable(name), execution.session.role, execution.now)
    return status(f"User {names.show((name,))} successfully created.")


def drop(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = reader.plain_name()
    reader.end()
    if name not in execution.account.users and if_exists:
        return status("Drop statement executed successfully.")
    user = execution.user(name)
    execution.require_ownership(securable(name))
    _remove(execution, user)
    return status(f"{names.show((name,))} successfully dropped.")


def _remove(execution: Execution, user: User) -> None:
    account = execution.account
    user.dropped = True
    del account.users[user.name]
    account.rights.forget(securable(user.name))
    for session in account.sessions.of_user(user.name):
        account.end_session(session)


def alter(execution: Execution, reader: Reader) -> Result:
    if_exists = reader.accept("IF EXISTS") is not None
    name = _subject(execution, reader)
    if name not in execution.account.users and if_exists:
        return status("Statement executed successfully.")
    user = execution.user(name)
    match reader.expect("SET", "UNSET", "ABORT", "RENAME", "ADD", "REMOVE", "ROTATE", "MODIFY"):
        case "SET":
            return _set(execution, user, reader)
        case "UNSET":
            return _unset(execution, user, reader)
        case "ABORT":
            return _abort(execution, user, reader)
        case "RENAME":
            return _rename(execution, user, reader)
        case action:
            return access_tokens.alter(execution, user, action, reader)


def _subject(execution: Execution, reader: Reader) -> str:
    """Read the name, which may be left out for the session's own user."""
    for action in ("SET", "UNSET", "ABORT ALL", "ADD PAT", "ADD PROGRAMMATIC", "REMOVE PAT"):
        if reader.at(action):
            return execution.session.user.name
    return reader.plain_name()


def _set(execution: Execution, user: User, reader: Reader) -> Result:
    changes = reader.properties()
    reader.end()
    if not changes:
        raise reader.unexpected()
    own = user is execution.session.user and changes.keys() <= _OWN_PROPERTIES
    if not own:
        execution.require_ownership(securable(user.name))
    user.apply(changes, execution.now)
    if user.disabled:
        execution.account.queries.cancel(lambda query: query.session.user is user)
    return status("Statement executed successfully.")


def _unset(execution: Execution, user: User, reader: Reader) -> Result:
    keys = [reader.word()]
    while reader.accept(",") or not (reader.ended or reader.at(";")):
        keys.append(reader.word())
    reader.end()
    execution.require_ownership(securable(user.name))
    for key in keys:
        user.unset(key)
    return status("Statement executed successfully.")


def _abort(execution: Execution, user: User, reader: Reader) -> Result:
    reader.expect("ALL QUERIES")
    reader.end()
    if user is not execution.session.user:
        execution.require_ownership(securable(user.name))
    execution.account.queries.cancel(
        lambda query: query.session.user is user and query is not execution.query
    )
    return status("Statement executed successfully.")


def _rename(execution: Execution, user: User, reader: Reader) -> Result:
    reader.expect("TO")
    name = reader.plain_name()
    reader.end()
    execution.require_ownership(securable(user.name))
    users = execution.account.users
    if name in users:
        raise errors.exists(names.show((name,)))
    execution.account.rights.renamed(securable(user.name), securable(name))
    users[name] = users.pop(user.name)
    user.properties["LOGIN_NAME"] = user.login_name
    user.name = name
    return status("Statement executed successfully.")


def describe(execution: Execution, reader: Reader) -> Result:
    user = execution.user(reader.plain_name())
    reader.end()
    on = securable(user.name)
    if user is not execution.session.user and not execution.manages_grants:
        execution.require("MONITOR", on)
    columns = [Column(name) for name in ("property", "value", "default", "description")]
    properties: dict[str, Value] = {"NAME": user.name, **user.properties}
    properties["PASSWORD"] = None if user.password is None else "********"
    for key in ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"):
        properties[f"{key}_FP"] = user.keys[key].fingerprint if key in user.keys else None
    rows = [
        {"property": key, "value": _shown(value), "default": "null", "description": ""}
        for key, value in properties.items()
    ]
    return listed(columns, rows)


def _shown(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return str(value).replace("'", '"')
    return str(value)
