"""Who may log in, and with what session they start."""

from collections.abc import Container, Mapping
from typing import Any

from snowflake_simulator import errors
from snowflake_simulator.account import Account
from snowflake_simulator.catalog import INFORMATION_SCHEMA
from snowflake_simulator.credentials import AccessToken, KeyToken
from snowflake_simulator.reader import Reader, Value
from snowflake_simulator.rights import PUBLIC, Securable
from snowflake_simulator.sessions import Session
from snowflake_simulator.users import PARAMETERS, User, check_parameter

_KEY_PAIR = "SNOWFLAKE_JWT"
_ACCESS_TOKEN = "PROGRAMMATIC_ACCESS_TOKEN"
_PASSWORD_METHODS = ("", "SNOWFLAKE", "USERNAME_PASSWORD_MFA")


def log_in(account: Account, data: Mapping[str, Any], wanted: Mapping[str, str]) -> Session:
    """Open a session for a login request's ``data``.

    ``wanted`` has the role, warehouse, database and schema of the connect string.
    """
    account.end_expired_sessions()
    with account.lock:
        user, method, token = _authenticate(account, data)
        now = account.clock.now()
        if user.disabled or (user.expires_at is not None and now >= user.expires_at):
            raise errors.user_disabled()
        role = _role(account, user, token, wanted.get("roleName"))
        session = account.sessions.open(user, role, method)
        session.client = f"{data.get('CLIENT_APP_ID')} {data.get('CLIENT_APP_VERSION')}"
        restricted = token is not None and token.role is not None
        session.restricted = restricted
        session.secondary_roles = (
            bool(user.properties["DEFAULT_SECONDARY_ROLES"]) and not restricted
        )
        _set_parameters(session, data.get("SESSION_PARAMETERS") or {})
        _set_context(account, session, wanted)
        user.last_login = now
        return session


def _authenticate(
    account: Account, data: Mapping[str, Any]
) -> tuple[User, str, AccessToken | None]:
    name = str(data.get("LOGIN_NAME") or "").upper()
    user = next((user for user in account.users.values() if user.login_name == name), None)
    method = str(data.get("AUTHENTICATOR") or "").upper()
    secret = str(data.get("TOKEN") or data.get("PASSWORD") or "")
    if method == _KEY_PAIR:
        _check_key_token(account, user, name, secret)
        assert user is not None
        return user, "RSA_KEYPAIR", None
    token = None if user is None else _access_token(account, user, secret)
    if user is not None and token is not None:
        return user, "PAT", token
    if method == _ACCESS_TOKEN:
        raise errors.bad_access_token()
    if method not in _PASSWORD_METHODS:
        raise errors.SnowflakeError("390422", "08001", f"Authenticator {method} is not supported.")
    if user is None or user.password is None or not user.password.matches(secret):
        raise errors.bad_login()
    return user, "PASSWORD", None


def _check_key_token(account: Account, user: User | None, name: str, text: str) -> None:
    token = KeyToken.parse(text)
    subject = f"{account.name}.{name}"
    keys = [] if user is None else list(user.keys.values())
    if not token.proves(subject, keys, account.clock.seconds()):
        raise errors.bad_key_token()


def _access_token(account: Account, user: User, secret: str) -> AccessToken | None:
    now = account.clock.now()
    return next((token for token in user.tokens.values() if token.accepts(secret, now)), None)


def _role(account: Account, user: User, token: AccessToken | None, wanted: str | None) -> str:
    restriction = None if token is None else token.role
    if restriction is not None:
        if not account.may_assume(user, restriction):
            raise errors.bad_access_token()
        return restriction
    if wanted:
        role = Reader(wanted).plain_name()
        if not account.may_assume(user, role):
            raise errors.role_not_granted(role)
        return role
    default = _stored_name(user.text("DEFAULT_ROLE"), account.rights.roles)
    return default if default and account.may_assume(user, default) else PUBLIC


def _stored_name(text: str | None, known: Container[str]) -> str | None:
    """Return the object that a user's property or a connect string means."""
    if not text or text in known:
        return text or None
    return Reader(text).plain_name()


def _set_parameters(session: Session, parameters: Mapping[str, Any]) -> None:
    """Take over what the client set for the session; all its values come as text."""
    for key, text in parameters.items():
        if key.upper() in PARAMETERS:
            value = _typed(PARAMETERS[key.upper()], text)
            check_parameter(key.upper(), value)
            session.parameters[key.upper()] = value


def _typed(default: Value, text: Any) -> Value:
    if isinstance(default, bool):
        return str(text).lower() == "true"
    if isinstance(default, int):
        return int(text) if str(text).isdigit() else str(text)
    return str(text)


def _set_context(account: Account, session: Session, wanted: Mapping[str, str]) -> None:
    """Enter warehouse, database and schema, those that are there and allowed.

    The server connects without the others, and so does this one.
    """
    user = session.user
    roles = account.roles_of(session)
    namespace = user.text("DEFAULT_NAMESPACE")
    default = Reader(namespace).object_name() if namespace else ()
    warehouse = wanted.get("warehouse") or user.text("DEFAULT_WAREHOUSE")
    session.warehouse = _stored_name(warehouse, account.catalog.warehouses)
    if wanted.get("databaseName"):
        default = (Reader(wanted["databaseName"]).plain_name(),)
    schema = Reader(wanted["schemaName"]).plain_name() if wanted.get("schemaName") else None
    if schema is None and default:
        schema = default[1] if len(default) > 1 else "PUBLIC"
    if not default or not account.rights.allows(roles, "USAGE", Securable("DATABASE", default[:1])):
        return
    session.database = default[0]
    found = account.catalog.schema((default[0], str(schema)))
    if found is None:
        return
    if found.name[1] == INFORMATION_SCHEMA or account.rights.allows(
        roles, "USAGE", found.securable
    ):
        session.schema = schema
