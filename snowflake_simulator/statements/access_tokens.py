"""Programmatic access tokens: ALTER USER ... ADD, ROTATE, MODIFY, REMOVE and SHOW."""

from datetime import timedelta

from snowflake_simulator import errors, names
from snowflake_simulator.credentials import AccessToken, expiry
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import (
    MANAGE_TOKENS,
    Column,
    Result,
    listed,
    moment,
    number,
    status,
)
from snowflake_simulator.rights import Securable
from snowflake_simulator.users import User

PRIVILEGE = "MODIFY PROGRAMMATIC AUTHENTICATION METHODS"
MOST_TOKENS = 15
_DEFAULT_DAYS = 15
_MOST_DAYS = 365
_DEFAULT_ROTATION_HOURS = 24

_COLUMNS = [
    Column("name"),
    Column("user_name"),
    Column("role_restriction"),
    moment("expires_at"),
    Column("status"),
    Column("comment"),
    moment("created_on"),
    Column("created_by"),
    number("mins_to_bypass_network_policy_requirement"),
    Column("rotated_to"),
]


def alter(execution: Execution, user: User, action: str, reader: Reader) -> Result:
    reader.expect("PROGRAMMATIC ACCESS TOKEN", "PAT")
    condition = reader.accept("IF NOT EXISTS", "IF EXISTS")
    name = reader.name()
    if user is not execution.session.user or user.is_service:
        execution.require(PRIVILEGE, Securable("USER", (user.name,)))
    if action == "ADD":
        return _add(execution, user, name, reader, unless_exists=condition is not None)
    if name not in user.tokens:
        if condition is not None:
            return status("Statement executed successfully.")
        raise errors.missing("programmatic access token", names.show((name,)))
    match action:
        case "REMOVE":
            reader.end()
            del user.tokens[name]
            return status("Statement executed successfully.")
        case "ROTATE":
            return _rotate(execution, user, user.tokens[name], reader)
        case _:
            return _modify(user, user.tokens[name], reader)


def _add(
    execution: Execution, user: User, name: str, reader: Reader, *, unless_exists: bool
) -> Result:
    options = reader.properties()
    reader.end()
    if name in user.tokens:
        if unless_exists:
            return status(f"{name} already exists, statement succeeded.")
        raise errors.exists(names.show((name,)))
    days = options.pop("DAYS_TO_EXPIRY", _DEFAULT_DAYS)
    if not isinstance(days, int) or not 1 <= days <= _MOST_DAYS:
        raise errors.invalid_value(days, "DAYS_TO_EXPIRY")
    role = _restriction(execution, user, options.pop("ROLE_RESTRICTION", None))
    comment = options.pop("COMMENT", None)
    options.pop("MINS_TO_BYPASS_NETWORK_POLICY_REQUIREMENT", None)
    if options:
        raise errors.invalid_property(next(iter(options)), "PROGRAMMATIC ACCESS TOKEN")
    now = execution.now
    if sum(now < token.expires_at for token in user.tokens.values()) >= MOST_TOKENS:
        raise errors.invalid_value(name, "PROGRAMMATIC ACCESS TOKEN")
    token = AccessToken(
        name, role, days, now, execution.session.user.name, expiry(now, days), str(comment or "")
    )
    user.tokens[name] = token
    return _secret({"token_name": name, "token_secret": token.renew_secret()})


def _restriction(execution: Execution, user: User, value: object) -> str | None:
    """Return the role that the token is held to, which a service user has to name."""
    if value is None:
        if user.is_service:
            raise errors.invalid_value("NULL", "ROLE_RESTRICTION")
        return None
    role = Reader(str(value)).plain_name()
    if not execution.account.may_assume(user, role):
        raise errors.missing("role", names.show((role,)))
    return role


def _rotate(execution: Execution, user: User, token: AccessToken, reader: Reader) -> Result:
    options = reader.properties()
    reader.end()
    if execution.session.user is user and execution.session.method == "PAT":
        raise errors.forbidden("user", names.show((user.name,)))
    hours = int(str(options.get("EXPIRE_ROTATED_TOKEN_AFTER_HOURS", _DEFAULT_ROTATION_HOURS)))
    now = execution.now
    rotated = f"{token.name}_ROTATED_{int(now.timestamp() * 1000)}"
    user.tokens[rotated] = token.copy_as(rotated, now + timedelta(hours=hours))
    token.expires_at = expiry(now, token.days)
    secret = token.renew_secret()
    return _secret(
        {"token_name": token.name, "token_secret": secret, "rotated_token_name": rotated}
    )


def _modify(user: User, token: AccessToken, reader: Reader) -> Result:
    if reader.accept("RENAME TO"):
        name = reader.name()
        reader.end()
        if name in user.tokens:
            raise errors.exists(names.show((name,)))
        user.tokens[name] = user.tokens.pop(token.name)
        token.name = name
    else:
        reader.expect("SET")
        changes = reader.properties()
        reader.end()
        token.disabled = bool(changes.get("DISABLED", token.disabled))
        token.comment = str(changes.get("COMMENT", token.comment))
    return status("Statement executed successfully.")


def show(execution: Execution, reader: Reader) -> Result:
    user = execution.session.user
    if reader.accept("FOR USER"):
        user = execution.user(reader.plain_name())
    reader.end()
    if user is not execution.session.user:
        execution.require(PRIVILEGE, Securable("USER", (user.name,)))
    now = execution.now
    rows = [
        {
            "name": token.name,
            "user_name": user.name,
            "role_restriction": token.role,
            "expires_at": token.expires_at,
            "status": "DISABLED" if user.disabled else token.status(now),
            "comment": token.comment,
            "created_on": token.created_on,
            "created_by": token.created_by,
            "rotated_to": token.rotated_to,
        }
        for token in user.tokens.values()
    ]
    return listed(_COLUMNS, rows)


def _secret(row: dict[str, str]) -> Result:
    return listed([Column(name) for name in row], [row], MANAGE_TOKENS)
