"""SHOW GRANTS ON, TO and OF, and SHOW FUTURE GRANTS."""

from typing import Any

from snowflake_simulator import names
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Column, Result, listed, moment
from snowflake_simulator.rights import ACCOUNT, FutureGrant, Grant, Securable
from snowflake_simulator.statements.securables import read_securable
from snowflake_simulator.users import User

_CREATED = moment("created_on")
_TAIL = [Column(name) for name in ("granted_to", "grantee_name", "grant_option", "granted_by")]
_COLUMNS = [_CREATED, *(Column(name) for name in ("privilege", "granted_on", "name")), *_TAIL]
_USER_COLUMNS = [
    _CREATED,
    *(Column(name) for name in ("privilege", "granted_on", "name", "role")),
    *_TAIL,
]
_OF_COLUMNS = [
    _CREATED,
    *(Column(name) for name in ("role", "granted_to", "grantee_name", "granted_by")),
]
_FUTURE_COLUMNS = [
    _CREATED,
    *(Column(name) for name in ("privilege", "grant_on", "name")),
    *(Column(name) for name in ("grant_to", "grantee_name", "grant_option")),
]


def grants(execution: Execution, reader: Reader) -> Result:
    if reader.accept("ON ACCOUNT"):
        reader.end()
        return _listed(execution.account.rights.on(ACCOUNT))
    if reader.accept("ON"):
        on = read_securable(execution, reader)
        reader.end()
        return _listed(execution.account.rights.on(on))
    if reader.accept("TO ROLE"):
        role = _role(execution, reader)
        return listed(
            _COLUMNS,
            [*_rows(list(execution.account.rights.held_by(role))), *_taken_along(execution, role)],
        )
    if reader.accept("OF ROLE"):
        return _of_role(execution, _role(execution, reader))
    user = execution.session.user
    if reader.accept("TO USER"):
        user = execution.user(reader.plain_name())
    reader.end()
    if user is not execution.session.user and not execution.manages_grants:
        execution.require("MONITOR", Securable("USER", (user.name,)))
    return _to_user(user)


def _role(execution: Execution, reader: Reader) -> str:
    name = reader.plain_name()
    reader.end()
    execution.role(name)
    return name


def _listed(found: list[Grant]) -> Result:
    return listed(_COLUMNS, _rows(found))


def _rows(found: list[Grant]) -> list[dict[str, Any]]:
    return [
        {
            "created_on": grant.created_on,
            "privilege": grant.privilege,
            "granted_on": grant.on.kind,
            "name": grant.on.shown,
            "granted_to": "ROLE",
            "grantee_name": grant.role,
            "grant_option": str(grant.grant_option).lower(),
            "granted_by": grant.granted_by,
        }
        for grant in found
    ]


def _taken_along(execution: Execution, holder: str) -> list[dict[str, Any]]:
    return [
        _role_row(role, created_on, "ROLE", holder)
        for role, created_on in execution.account.rights.roles[holder].roles.items()
    ]


def _role_row(role: str, created_on: object, receives: str, holder: str) -> dict[str, Any]:
    return {
        "created_on": created_on,
        "privilege": "USAGE",
        "granted_on": "ROLE",
        "name": names.show((role,)),
        "role": role,
        "granted_to": receives,
        "grantee_name": holder,
        "grant_option": "false",
    }


def _to_user(user: User) -> Result:
    rows = [
        _role_row(role, created_on, "USER", user.name) for role, created_on in user.roles.items()
    ]
    return listed(_USER_COLUMNS, rows)


def _of_role(execution: Execution, role: str) -> Result:
    account = execution.account
    rows = [
        _role_row(role, user.roles[role], "USER", user.name)
        for user in account.users.values()
        if role in user.roles
    ]
    rows += [
        _role_row(role, other.roles[role], "ROLE", other.name)
        for other in account.rights.roles.values()
        if role in other.roles
    ]
    return listed(_OF_COLUMNS, rows)


def future(execution: Execution, reader: Reader) -> Result:
    known = execution.account.rights.future
    if reader.accept("TO ROLE"):
        role = _role(execution, reader)
        return _future([grant for grant in known if grant.role == role])
    reader.expect("IN")
    if reader.accept("DATABASE"):
        container = execution.database(reader.plain_name()).securable
    elif reader.accept("SCHEMA"):
        container = execution.schema(reader.object_name()).securable
    else:
        raise reader.unexpected()
    reader.end()
    return _future([grant for grant in known if grant.container == container])


def _future(found: list[FutureGrant]) -> Result:
    rows = [
        {
            "created_on": grant.created_on,
            "privilege": grant.privilege,
            "grant_on": grant.kind,
            "name": f"{grant.container.shown}.<{grant.kind}>",
            "grant_to": "ROLE",
            "grantee_name": grant.role,
            "grant_option": str(grant.grant_option).lower(),
        }
        for grant in found
    ]
    return listed(_FUTURE_COLUMNS, rows)
