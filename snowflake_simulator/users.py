"""Users, their properties and the roles they were granted."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from snowflake_simulator import errors
from snowflake_simulator.credentials import (
    AccessToken,
    Password,
    PublicKey,
    check_password_policy,
)
from snowflake_simulator.reader import Value

TYPES = ("PERSON", "SERVICE", "LEGACY_SERVICE", None)
KEY_PROPERTIES = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")
#: Properties with the values of a fresh user.
DEFAULTS: dict[str, Value] = {
    "LOGIN_NAME": None,
    "DISPLAY_NAME": None,
    "FIRST_NAME": None,
    "MIDDLE_NAME": None,
    "LAST_NAME": None,
    "EMAIL": None,
    "MUST_CHANGE_PASSWORD": False,
    "DISABLED": False,
    "DAYS_TO_EXPIRY": None,
    "MINS_TO_UNLOCK": None,
    "DEFAULT_WAREHOUSE": None,
    "DEFAULT_NAMESPACE": None,
    "DEFAULT_ROLE": None,
    "DEFAULT_SECONDARY_ROLES": ["ALL"],
    "MINS_TO_BYPASS_MFA": None,
    "RSA_PUBLIC_KEY": None,
    "RSA_PUBLIC_KEY_2": None,
    "TYPE": None,
    "COMMENT": None,
    "NETWORK_POLICY": None,
}
#: What a user of type SERVICE cannot have.
_PERSONAL = (
    "PASSWORD",
    "FIRST_NAME",
    "MIDDLE_NAME",
    "LAST_NAME",
    "MUST_CHANGE_PASSWORD",
    "MINS_TO_BYPASS_MFA",
)
#: Defaults of the session that a user may be given, with the account's values.
PARAMETERS: dict[str, Value] = {
    "AUTOCOMMIT": True,
    "LOCK_TIMEOUT": 43_200,
    "QUERY_TAG": "",
    "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS": 0,
    "STATEMENT_TIMEOUT_IN_SECONDS": 172_800,
    "TIMEZONE": "Etc/UTC",
}
LONGEST_STATEMENT = 604_800


@dataclass
class User:
    name: str
    created_on: datetime
    properties: dict[str, Value] = field(default_factory=lambda: dict(DEFAULTS))
    parameters: dict[str, Value] = field(default_factory=dict)
    password: Password | None = None
    keys: dict[str, PublicKey] = field(default_factory=dict)
    tokens: dict[str, AccessToken] = field(default_factory=dict)
    #: When each role was granted.
    roles: dict[str, datetime] = field(default_factory=dict)
    dropped: bool = False
    expires_at: datetime | None = None
    last_login: datetime | None = None

    @property
    def login_name(self) -> str:
        return str(self.properties["LOGIN_NAME"] or self.name).upper()

    @property
    def disabled(self) -> bool:
        return self.properties["DISABLED"] is True

    @property
    def is_service(self) -> bool:
        return self.properties["TYPE"] == "SERVICE"

    def text(self, key: str) -> str | None:
        value = self.properties[key]
        return None if value is None else str(value)

    def apply(self, changes: dict[str, Value], now: datetime) -> None:
        """Set properties and parameters, all or, when one of them is wrong, none."""
        self._check(changes)
        for key, value in changes.items():
            if key == "PASSWORD":
                self.password = None if value is None else Password.of(str(value))
            elif key in PARAMETERS:
                self.parameters[key] = value
            else:
                self.properties[key] = value
        if self.disabled:
            # They stay so when the user is enabled again.
            for token in self.tokens.values():
                token.disabled = True
        for key in KEY_PROPERTIES:
            if key in changes:
                self._set_key(key, changes[key])
        if "DAYS_TO_EXPIRY" in changes:
            days = changes["DAYS_TO_EXPIRY"]
            self.expires_at = None if days is None else now + timedelta(days=int(str(days)))

    def unset(self, key: str) -> None:
        if key in PARAMETERS:
            self.parameters.pop(key, None)
        elif key == "PASSWORD":
            self.password = None
        elif key in DEFAULTS:
            self.properties[key] = DEFAULTS[key]
            self.keys.pop(key, None)
            if key == "DAYS_TO_EXPIRY":
                self.expires_at = None
        else:
            raise errors.invalid_property(key, "USER")

    def _check(self, changes: dict[str, Value]) -> None:
        kind = changes.get("TYPE", self.properties["TYPE"])
        if isinstance(kind, str):
            kind = changes["TYPE"] = kind.upper()
        if kind not in TYPES:
            raise errors.invalid_value(kind, "TYPE")
        for key, value in changes.items():
            if key != "PASSWORD" and key not in DEFAULTS and key not in PARAMETERS:
                raise errors.invalid_property(key, "USER")
            if key in _PERSONAL and value is not None and kind == "SERVICE":
                raise errors.invalid_property(key, "USER")
            check_parameter(key, value)
        if kind == "SERVICE" and self.password is not None:
            raise errors.invalid_value(kind, "TYPE")
        if isinstance(changes.get("PASSWORD"), str):
            check_password_policy(str(changes["PASSWORD"]))
        for key in KEY_PROPERTIES:
            if changes.get(key) is not None:
                PublicKey(str(changes[key]))

    def _set_key(self, key: str, value: Value) -> None:
        if value is None:
            self.keys.pop(key, None)
        else:
            self.keys[key] = PublicKey(str(value))


def check_parameter(key: str, value: Value) -> None:
    """Refuse a statement timeout that is no number of seconds up to a week."""
    if key == "STATEMENT_TIMEOUT_IN_SECONDS":
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 0 <= int(str(value)) <= LONGEST_STATEMENT:
            raise errors.invalid_value(value, key)
