"""What a workspace's user logs in with: a password, a key pair, or an access token.

The server chooses an access token and shows it once, and its end cannot be moved. So an extend
makes a second token long before the first one ends.
"""

import secrets
import time
from typing import Any

from snowflake.connector.errors import Error

from provisioning.backends.base import EngineRefused, IssuedPassword, LoginRefused, Spec
from provisioning.backends.key_pairs import fingerprint, private_der
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.snowflake.server import Server, Statements, quote_text, translate
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import SnowflakeServer
from provisioning.state.claims import Lease

#: The longest statement limit the server takes, a week, which is also what it has without one.
LONGEST_STATEMENT = 604_800
DAY_MS = 86_400_000


def user_options(config: SnowflakeServer, spec: Spec, password: Secret, seconds: int) -> str:
    """Return the properties of the user. Its values are ours: names, numbers, letters.

    ``seconds`` is the longest a statement may take, 0 for no limit.
    """
    # Names inside a namespace are quoted, as it is read like a name in a statement.
    values: dict[str, str] = {
        "TYPE": config.user_type,
        "DISABLED": "FALSE",
        "DEFAULT_ROLE": quote_sql_name(spec.user_name),
        "DEFAULT_WAREHOUSE": quote_sql_name(config.warehouse.upper()),
        "DEFAULT_NAMESPACE": quote_text(spec.object_name),
        "STATEMENT_TIMEOUT_IN_SECONDS": str(min(seconds or LONGEST_STATEMENT, LONGEST_STATEMENT)),
    }
    if config.has_passwords:
        values["PASSWORD"] = quote_text(password.reveal())
        values["MUST_CHANGE_PASSWORD"] = "FALSE"
    if spec.public_key is not None:
        values["RSA_PUBLIC_KEY"] = quote_text(spec.public_key)
    if spec.expires_at is not None:
        values["DAYS_TO_EXPIRY"] = str(days_left(spec.expires_at))
    return " ".join(f"{name} = {value}" for name, value in values.items())


def days_left(expires_at: int) -> int:
    """Return the whole days after which the server itself shuts the user out.

    It covers a missed sweep. A day is added, so that it never comes too early.
    """
    left = expires_at - time.time() * 1000
    return max(int(left // DAY_MS), 0) + 2


# Access tokens --------------------------------------------------------------------------


def issue_password(
    run: Statements, config: SnowflakeServer, spec: Spec, lease: Lease
) -> IssuedPassword | None:
    """Return what replaces a password, or None where the user has the password we chose."""
    if config.has_passwords:
        return None
    if not config.access_tokens:
        return IssuedPassword(Secret(""), None)
    if lease.token > 1:
        # Nobody knows the tokens of an earlier attempt.
        for row in run(f"SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER {_user(spec)}"):
            token = quote_sql_name(str(row["name"]))
            run.change(lease, f"ALTER USER {_user(spec)} REMOVE PROGRAMMATIC ACCESS TOKEN {token}")
    lease.check()
    return issue_token(run, config, spec)


def issue_token(run: Statements, config: SnowflakeServer, spec: Spec) -> IssuedPassword:
    """Add an access token that is held to the workspace's role."""
    # Its name is new, so nothing that an earlier attempt still does can take it away.
    name = quote_sql_name(f"WORKSPACE_{secrets.token_hex(4).upper()}")
    try:
        rows = run(
            f"ALTER USER {_user(spec)} ADD PROGRAMMATIC ACCESS TOKEN {name} "
            f"ROLE_RESTRICTION = {quote_text(spec.user_name)} "
            f"DAYS_TO_EXPIRY = {config.access_token_days}"
        )
    except EngineRefused as refusal:
        raise EngineRefused(
            f"{refusal.args[0]} (access tokens need a network policy on their user, or an "
            "authentication policy that does without)",
            *refusal.args[1:],
        ) from None
    ends_at = int(time.time() * 1000) + config.access_token_days * DAY_MS
    return IssuedPassword(Secret(str(rows[0]["token_secret"])), ends_at)


def needs_token(config: SnowflakeServer, spec: Spec) -> bool:
    """Return whether an extend to ``spec.expires_at`` renews the access token.

    That is in the second half of its days, unless it outlasts the credential anyway. Not at each
    extend, because the server limits the number of tokens of a user.
    """
    ends_at = spec.password_ends_at
    if ends_at is None or (spec.expires_at is not None and spec.expires_at <= ends_at):
        return False
    return ends_at - time.time() * 1000 < config.access_token_days * DAY_MS / 2


# Verification ---------------------------------------------------------------------------


def verify_logins(server: Server, spec: Spec, password: Secret) -> None:
    """Log in with each secret we give out; check that the server has the caller's own key."""
    if password.reveal():
        _log_in(server, spec, password=password.reveal())
    if spec.private_key is not None:
        _log_in(server, spec, private_key=private_der(spec.private_key))
    elif spec.public_key is not None:
        _look_for_key(server, spec, spec.public_key)
    elif not password.reveal():
        raise EngineRefused(f"server {spec.server}: {spec.user_name} has nothing to log in with")


def _log_in(server: Server, spec: Spec, **secret: Any) -> None:
    try:
        connection = server.connect_as(spec.user_name, **secret)
        schema = connection.schema
        connection.close()
    except Error as problem:
        error = translate(problem, f"{spec.server}: login")
        raise (LoginRefused(*error.args) if isinstance(error, EngineRefused) else error) from None
    if schema != spec.object_name.split(".")[1]:
        raise EngineRefused(f"server {spec.server}: {spec.user_name} does not reach its schema")


def _look_for_key(server: Server, spec: Spec, public_key: str) -> None:
    with server.statements() as run:
        rows = run(f"DESCRIBE USER {_user(spec)}")
    properties = {str(row["property"]): row["value"] for row in rows}
    if properties.get("RSA_PUBLIC_KEY_FP") != fingerprint(public_key):
        raise EngineRefused(f"server {spec.server}: {spec.user_name} does not have its key")


def _user(spec: Spec) -> str:
    return quote_sql_name(spec.user_name)
