"""Errors as the server words them: a six-digit code, an SQLSTATE and a message."""


class SnowflakeError(Exception):
    """An answer with ``success: false``."""

    def __init__(self, code: str, sqlstate: str, message: str) -> None:
        super().__init__(f"{code} ({sqlstate}): {message}")
        self.code = code
        self.sqlstate = sqlstate
        self.message = message


def unsupported(feature: str) -> SnowflakeError:
    return SnowflakeError("000002", "0A000", f"Unsupported feature '{feature}'.")


def several_statements(count: int) -> SnowflakeError:
    return SnowflakeError(
        "000008",
        "0A000",
        f"Actual statement count {count} did not match the desired statement count 1.",
    )


def syntax_error(position: int, unexpected: str) -> SnowflakeError:
    return SnowflakeError(
        "001003",
        "42000",
        "SQL compilation error:\n"
        f"syntax error line 1 at position {position} unexpected '{unexpected}'.",
    )


def invalid_value(value: object, parameter: str) -> SnowflakeError:
    return SnowflakeError(
        "001008",
        "22023",
        f"SQL compilation error:\ninvalid value [{value}] for parameter '{parameter}'",
    )


def missing(kind: str, name: str) -> SnowflakeError:
    """An object named in a statement is not there, or may not be seen."""
    return SnowflakeError(
        "002003",
        "02000",
        f"SQL compilation error:\n{kind.capitalize()} '{name}' does not exist or not authorized.",
    )


def impossible() -> SnowflakeError:
    """USE and its like do not say which of missing and forbidden it was."""
    return SnowflakeError(
        "002043",
        "02000",
        "SQL compilation error:\nObject does not exist, or operation cannot be performed.",
    )


def exists(name: str) -> SnowflakeError:
    return SnowflakeError(
        "002002", "42710", f"SQL compilation error:\nObject '{name}' already exists."
    )


def forbidden(kind: str, name: str) -> SnowflakeError:
    shown = f"{kind.lower()} '{name}'" if name else kind.lower()
    return SnowflakeError(
        "003001",
        "42501",
        f"SQL access control error:\nInsufficient privileges to operate on {shown}",
    )


def role_not_assigned(role: str) -> SnowflakeError:
    return SnowflakeError(
        "003013",
        "42501",
        f"SQL access control error:\nRequested role '{role}' is not assigned to the executing "
        "user. Specify another role to activate.",
    )


def rejected_password(reason: str) -> SnowflakeError:
    return SnowflakeError(
        "003002",
        "28P01",
        "SQL execution error:\nNew password rejected by current password policy. "
        f"Reason: '{reason}'.",
    )


def no_warehouse() -> SnowflakeError:
    return SnowflakeError(
        "000606",
        "57P03",
        "No active warehouse selected in the current session.  Select an active warehouse with "
        "the 'use warehouse' command.",
    )


def no_database(verb: str) -> SnowflakeError:
    return _nothing_current("090105", "database", verb)


def no_schema(verb: str) -> SnowflakeError:
    return _nothing_current("090106", "schema", verb)


def _nothing_current(code: str, kind: str, verb: str) -> SnowflakeError:
    return SnowflakeError(
        code,
        "22000",
        f"Cannot perform {verb}. This session does not have a current {kind}. Call "
        f"'USE {kind.upper()}', or use a qualified name.",
    )


def cancelled() -> SnowflakeError:
    return SnowflakeError("000604", "57014", "SQL execution canceled")


def timed_out(seconds: int) -> SnowflakeError:
    return SnowflakeError(
        "000630",
        "57014",
        f"Statement reached its statement or warehouse timeout of {seconds} second(s) and was "
        "canceled.",
    )


def bad_login() -> SnowflakeError:
    return SnowflakeError("390100", "08001", "Incorrect username or password was specified.")


def user_disabled() -> SnowflakeError:
    return SnowflakeError(
        "390101", "08001", "User access disabled. Contact your local system administrator."
    )


def bad_key_token() -> SnowflakeError:
    return SnowflakeError("390144", "08001", "JWT token is invalid.")


def bad_access_token() -> SnowflakeError:
    return SnowflakeError("394400", "08001", "Programmatic access token is invalid.")


def role_not_granted(role: str) -> SnowflakeError:
    return SnowflakeError(
        "390189",
        "08001",
        f"Role '{role}' specified in the connect string is not granted to this user. Contact "
        "your local system administrator, or attempt to login with another role, e.g. PUBLIC.",
    )


def session_gone() -> SnowflakeError:
    return SnowflakeError(
        "390111",
        "08001",
        "Session no longer exists.  New login required to access the service.",
    )


def session_token_expired() -> SnowflakeError:
    return SnowflakeError(
        "390112",
        "08001",
        "Your session has expired. Please login again.",
    )


def master_token_expired() -> SnowflakeError:
    return SnowflakeError(
        "390114",
        "08001",
        "Authentication token has expired.  The user must authenticate again.",
    )


def invalid_property(name: str, kind: str) -> SnowflakeError:
    return SnowflakeError(
        "001420", "22023", f"SQL compilation error:\ninvalid property '{name}' for '{kind}'"
    )


def dependent_grants(privilege: str, securable: str, role: str) -> SnowflakeError:
    """Ownership cannot move while other roles hold rights, unless told what to do with them."""
    return SnowflakeError(
        "003036",
        "42501",
        f"SQL execution error:\nDependent grant of privilege '{privilege}' on securable "
        f"'{securable}' to role '{role}' exists.  It must be revoked first.  More than one "
        "dependent grant may exist: use 'SHOW GRANTS' command to view them.  To revoke all "
        "dependent grants while transferring object ownership, use convenience command 'GRANT "
        "OWNERSHIP ON <target_objects> TO <target_role> REVOKE CURRENT GRANTS'.",
    )
