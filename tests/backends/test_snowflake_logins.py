"""What Snowflake workspaces log in with: passwords, key pairs and access tokens."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from snowflake.connector.errors import Error

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    IssuedPassword,
    Owner,
    Spec,
)
from provisioning.backends.key_pairs import fingerprint, generate_key_pair, private_der
from provisioning.backends.snowflake.logins import DAY_MS, verify_logins
from provisioning.backends.snowflake.server import Server
from provisioning.configuration.secrets import Secret, generate_password
from tests.backends.case import lease
from tests.backends.snowflake_case import Account, SnowflakeCase, configured, error_of, run

DAY = 86_400
BAD_LOGIN, BAD_KEY, OTHER_ROLE = 390100, 390144, 3013
SERVICE: dict[str, Any] = {"user_type": "SERVICE"}
TOKENS: dict[str, Any] = {**SERVICE, "access_tokens": True, "access_token_days": 30}


@dataclass(frozen=True)
class Made:
    spec: Spec
    #: Ours, and the one that stands for it.
    password: Secret
    issued: IssuedPassword | None


def make(case: SnowflakeCase, public_key: str | None = None) -> Made:
    """Make a workspace, by its owner's key if there is one."""
    number = case.spec().credentials_id
    owner = Owner("70", str(number), None, public_key)
    spec = case.backend.plan(case.prefix, owner, case.type, number, "one")
    password = generate_password()
    return Made(spec, password, case.backend.create(spec, password, lease()))


def make_again(case: SnowflakeCase, made: Made) -> Made:
    """Finish a workspace as another process does that found it half-made."""
    issued = case.backend.create(made.spec, made.password, lease(token=2))
    return Made(made.spec, made.password, issued)


def log_in_by_key(case: SnowflakeCase, made: Made) -> None:
    assert made.spec.private_key is not None
    case.connect_by_key(made.spec, private_der(made.spec.private_key)).close()


def login_error(case: SnowflakeCase, spec: Spec, *, password: Secret) -> int:
    with pytest.raises(Error) as caught:
        case.connect(spec, password)
    return int(caught.value.errno)


def token_of(made: Made) -> Secret:
    assert made.issued is not None
    return made.issued.password


def properties(case: SnowflakeCase, spec: Spec) -> dict[str, Any]:
    return {row[0]: row[1] for row in case.admin(f"DESCRIBE USER {spec.user_name}")}


# Key pairs ------------------------------------------------------------------------------


def test_a_key_pair_of_ours_stands_beside_the_password(own_account: Account) -> None:
    case = configured(own_account, key_pairs=True)
    made = make(case)
    assert made.issued is None
    case.connect(made.spec, made.password).close()
    log_in_by_key(case, made)
    details = case.backend.describe(made.spec, made.password)
    assert details["password"] == made.password.reveal()
    assert made.spec.private_key is not None
    assert details["privateKey"] == made.spec.private_key.reveal()
    with pytest.raises(Error) as caught:
        case.connect_by_key(made.spec, private_der(generate_key_pair()[0]))
    assert caught.value.errno == BAD_KEY


def test_a_service_user_has_a_key_pair_and_no_password(own_account: Account) -> None:
    case = configured(own_account, **SERVICE)
    made = make(case)
    assert made.issued == IssuedPassword(Secret(""), None)
    log_in_by_key(case, made)
    assert login_error(case, made.spec, password=made.password) == BAD_LOGIN
    shown = properties(case, made.spec)
    assert (shown["TYPE"], shown["PASSWORD"]) == ("SERVICE", "null")
    case.backend.drop(made.spec, lease())
    assert case.remains(made.spec) == []


@pytest.mark.parametrize("options", [{}, SERVICE], ids=["LEGACY_SERVICE", "SERVICE"])
def test_a_callers_key_is_the_only_one(own_account: Account, options: dict[str, Any]) -> None:
    case = configured(own_account, **options)
    private, public = generate_key_pair()
    made = make(case, public)
    assert made.spec.private_key is None
    case.connect_by_key(made.spec, private_der(private)).close()
    details = case.backend.describe(made.spec, Secret(""))
    assert details["publicKeyFingerprint"] == fingerprint(public)
    assert "privateKey" not in details
    shown = properties(case, made.spec)
    assert shown["RSA_PUBLIC_KEY_FP"] == fingerprint(public)
    assert shown["RSA_PUBLIC_KEY_2"] == "null"


def test_a_repeated_creation_puts_the_key_back(own_account: Account) -> None:
    case = configured(own_account, **SERVICE)
    made = make(case)
    case.admin(f"ALTER USER {made.spec.user_name} UNSET RSA_PUBLIC_KEY")
    make_again(case, made)
    log_in_by_key(case, made)


def test_a_creation_ends_only_when_what_is_handed_out_works(own_account: Account) -> None:
    case = configured(own_account, **SERVICE)
    made = make(case)
    server = Server(replace(own_account[1], **SERVICE), 2, 1)
    stranger, other = generate_key_pair()
    with closing(server):
        verify_logins(server, made.spec, Secret(""))
        for change, said in (
            ({"private_key": stranger}, "error 390144"),
            ({"private_key": None, "public_key": other}, "does not have its key"),
            ({"private_key": None, "public_key": None}, "nothing to log in with"),
        ):
            with pytest.raises(EngineError, match=said):
                verify_logins(server, replace(made.spec, **change), Secret(""))


# Access tokens --------------------------------------------------------------------------


def test_a_token_in_the_passwords_place_is_held_to_the_role(own_account: Account) -> None:
    case = configured(own_account, **TOKENS)
    made = make(case)
    with case.session(made.spec, token_of(made)) as connection:
        assert run(connection, "SELECT CURRENT_ROLE()") == [(made.spec.user_name,)]
        run(connection, "CREATE TABLE t (a INT)")
        case.admin(f"GRANT ROLE provisioner TO USER {made.spec.user_name}")
        assert error_of(connection, "USE ROLE provisioner") == OTHER_ROLE
    log_in_by_key(case, made)
    assert login_error(case, made.spec, password=made.password) == BAD_LOGIN


def test_a_repeated_creation_has_a_new_token_and_the_old_one_is_gone(own_account: Account) -> None:
    case = configured(own_account, **TOKENS)
    made = make(case)
    # What a drop does first: it disables the tokens for good.
    case.lock_login(made.spec)
    again = make_again(case, made)
    case.connect(again.spec, token_of(again)).close()
    assert login_error(case, made.spec, password=token_of(made)) == BAD_LOGIN
    tokens = case.admin(f"SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER {made.spec.user_name}")
    assert len(tokens) == 1


def test_a_lost_token_is_replaced_by_the_repeat(own_account: Account) -> None:
    case, simulator = configured(own_account, **TOKENS), own_account[0]
    made = make(case)
    simulator.fail_next(f'ALTER USER "{made.spec.user_name}" ADD', 603, after=True)
    with pytest.raises(EngineBusy):
        make_again(case, made)
    again = make_again(case, made)
    case.connect(again.spec, token_of(again)).close()


def test_a_refused_token_says_what_accounts_want(own_account: Account) -> None:
    case, simulator = configured(own_account, **TOKENS), own_account[0]
    made = make(case)
    simulator.fail_next(f'ALTER USER "{made.spec.user_name}" ADD', 394403, message="no policy")
    with pytest.raises(EngineRefused, match="no policy .access tokens need a network policy"):
        make_again(case, made)


def test_an_extend_renews_a_token_in_its_second_half(own_account: Account) -> None:
    case, simulator = configured(own_account, **TOKENS), own_account[0]
    made = make(case)
    assert made.issued is not None and made.issued.ends_at is not None
    now = time.time() * 1000
    assert abs(made.issued.ends_at - now - 30 * DAY_MS) < 60_000
    fresh = replace(made.spec, password_ends_at=made.issued.ends_at, expires_at=None)
    assert case.backend.prolong(fresh) is None
    # As if half of its days were over.
    half = int(now + 14 * DAY_MS)
    enough = replace(fresh, password_ends_at=half, expires_at=half - DAY_MS)
    assert case.backend.prolong(enough) is None
    for expires_at in (None, half + DAY_MS):
        due = replace(fresh, password_ends_at=half, expires_at=expires_at)
        renewed = case.backend.prolong(due)
        assert renewed is not None and renewed.ends_at is not None
        assert renewed.ends_at > half
        for password in (token_of(made), renewed.password):
            case.connect(made.spec, password).close()
    simulator.advance(31 * DAY)
    case.admin(f"ALTER USER {made.spec.user_name} UNSET DAYS_TO_EXPIRY")
    assert login_error(case, made.spec, password=token_of(made)) == BAD_LOGIN


# Secrets --------------------------------------------------------------------------------


def test_no_secret_is_in_a_statement_a_name_or_an_error(own_account: Account) -> None:
    case, simulator = configured(own_account, **TOKENS), own_account[0]
    made = make(case)
    assert made.spec.private_key is not None
    body = made.spec.private_key.reveal().splitlines()[1]
    said = "\n".join([*simulator.statements, repr(made.spec), repr(made.issued)])
    assert made.spec.user_name in said
    for secret in (body, token_of(made).reveal(), made.password.reveal()):
        assert secret not in said
