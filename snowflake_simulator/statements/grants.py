"""GRANT and REVOKE of roles and privileges, on objects there are and on future ones."""

from dataclasses import dataclass

from snowflake_simulator import errors, names
from snowflake_simulator.execution import Execution
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Result, status
from snowflake_simulator.rights import (
    ACCOUNT,
    OWNERSHIP,
    PRIVILEGES,
    FutureGrant,
    Grant,
    Securable,
)
from snowflake_simulator.statements.securables import read_kind, read_securable

_DONE = "Statement executed successfully."


@dataclass(frozen=True)
class Target:
    """What a GRANT or REVOKE is about: objects of one kind, or all future ones."""

    kind: str
    objects: tuple[Securable, ...] = ()
    future_in: Securable | None = None


def grant(execution: Execution, reader: Reader) -> Result:
    if reader.accept("ROLE"):
        return _grant_role(execution, reader)
    words = _privileges(reader)
    target = _target(execution, reader)
    reader.expect("TO")
    reader.accept("ROLE")
    role = reader.plain_name()
    grant_option = reader.accept("WITH GRANT OPTION") is not None
    current = reader.accept("REVOKE CURRENT GRANTS", "COPY CURRENT GRANTS")
    reader.end()
    execution.role(role)
    for privilege in _expand(words, target.kind):
        if target.future_in is not None:
            _grant_future(execution, privilege, target, role, grant_option)
            continue
        for on in target.objects:
            if privilege == OWNERSHIP:
                _give(execution, on, role, current)
            else:
                _require_granting(execution, privilege, on)
                execution.account.rights.grant(
                    Grant(
                        privilege,
                        on,
                        role,
                        execution.session.role,
                        execution.now,
                        grant_option,
                    )
                )
    return status(_DONE)


def revoke(execution: Execution, reader: Reader) -> Result:
    if reader.accept("ROLE"):
        return _revoke_role(execution, reader)
    only_option = reader.accept("GRANT OPTION FOR") is not None
    words = _privileges(reader)
    target = _target(execution, reader)
    reader.expect("FROM")
    reader.accept("ROLE")
    role = reader.plain_name()
    reader.accept("CASCADE", "RESTRICT")
    reader.end()
    execution.role(role)
    rights = execution.account.rights
    for privilege in _expand(words, target.kind):
        if target.future_in is not None:
            _require_future_granting(execution, target.future_in)
            rights.future = [
                known
                for known in rights.future
                if (known.privilege, known.kind, known.container, known.role)
                != (privilege, target.kind, target.future_in, role)
            ]
            continue
        for on in target.objects:
            _require_granting(execution, privilege, on)
            if only_option:
                rights.revoke_option(privilege, on, role)
            else:
                rights.revoke(privilege, on, role)
    return status(_DONE)


# Roles -------------------------------------------------------------------------------


def _grant_role(execution: Execution, reader: Reader) -> Result:
    role = reader.plain_name()
    reader.expect("TO")
    receives, holder = _holder(execution, role, reader)
    if receives == "USER":
        execution.user(holder).roles.setdefault(role, execution.now)
        return status(_DONE)
    rights = execution.account.rights
    if holder in rights.inherited([role]):
        raise errors.invalid_value(role, "ROLE")
    rights.roles[holder].roles.setdefault(role, execution.now)
    return status(_DONE)


def _revoke_role(execution: Execution, reader: Reader) -> Result:
    role = reader.plain_name()
    reader.expect("FROM")
    receives, holder = _holder(execution, role, reader)
    if receives == "USER":
        execution.user(holder).roles.pop(role, None)
    else:
        execution.account.rights.roles[holder].roles.pop(role, None)
    return status(_DONE)


def _holder(execution: Execution, role: str, reader: Reader) -> tuple[str, str]:
    """Read who a role is granted to, and make sure that the session may grant it."""
    on = execution.role(role)
    receives = reader.expect("USER", "ROLE")
    holder = reader.plain_name()
    reader.end()
    if receives == "USER":
        execution.user(holder)
    else:
        execution.role(holder)
    if not execution.manages_grants:
        execution.require_ownership(on)
    return receives, holder


# Privileges --------------------------------------------------------------------------


def _privileges(reader: Reader) -> list[str]:
    words = [_privilege(reader)]
    while reader.accept(","):
        words.append(_privilege(reader))
    reader.expect("ON")
    return words


def _privilege(reader: Reader) -> str:
    words = [reader.word()]
    while not reader.at("ON") and not reader.at(","):
        words.append(reader.word())
    return " ".join(words)


def _expand(words: list[str], kind: str) -> list[str]:
    if words in (["ALL"], ["ALL PRIVILEGES"]):
        return [word for word in PRIVILEGES[kind] if word != "IMPORTED PRIVILEGES"]
    for word in words:
        if word != OWNERSHIP and word not in PRIVILEGES[kind]:
            raise errors.syntax_error(0, word)
    return words


def _target(execution: Execution, reader: Reader) -> Target:
    if reader.accept("ACCOUNT"):
        return Target("ACCOUNT", (ACCOUNT,))
    scope = reader.accept("ALL", "FUTURE")
    if scope is None:
        on = read_securable(execution, reader)
        return Target(on.kind, (on,))
    kind = read_kind(reader, plural=True)
    reader.expect("IN")
    inside = reader.expect("DATABASE", "SCHEMA")
    if inside == "DATABASE":
        container = execution.database(reader.plain_name()).securable
    else:
        container = execution.schema(reader.object_name()).securable
    if scope == "FUTURE":
        return Target(kind, future_in=container)
    return Target(kind, tuple(_inside(execution, kind, container)))


def _inside(execution: Execution, kind: str, container: Securable) -> list[Securable]:
    catalog = execution.account.catalog
    found = [schema.securable for schema in catalog.schemas()]
    found += [table.securable for table in catalog.tables()]
    return [on for on in found if on.kind == kind and on.inside(container)]


def _require_granting(execution: Execution, privilege: str, on: Securable) -> None:
    """Grants are made by the owner, by who may pass the right on, and by MANAGE GRANTS.

    In a schema with managed access the owner of the schema takes the place of the owners of
    what is in it.
    """
    rights = execution.account.rights
    if execution.manages_grants:
        return
    schema = execution.account.catalog.schema(on.name[:2]) if len(on.name) == 3 else None
    if schema is not None and schema.managed:
        if not rights.owns(execution.roles, schema.securable):
            raise errors.forbidden(on.kind, on.shown)
    elif not rights.owns(execution.roles, on) and not rights.may_pass_on(
        execution.roles, privilege, on
    ):
        raise errors.forbidden(on.kind, on.shown)


def _give(execution: Execution, on: Securable, role: str, current: str | None) -> None:
    """Transfer the ownership of an object."""
    rights = execution.account.rights
    if not execution.manages_grants:
        execution.require_ownership(on)
    others = [grant for grant in rights.on(on) if grant.privilege != OWNERSHIP]
    if others and current is None:
        first = others[0]
        raise errors.dependent_grants(first.privilege, on.shown, first.role)
    if current == "REVOKE CURRENT GRANTS":
        rights.revoke_all(on)
    rights.set_owner(on, role, execution.now)


# Future objects ----------------------------------------------------------------------


def _grant_future(
    execution: Execution, privilege: str, target: Target, role: str, grant_option: bool
) -> None:
    container = target.future_in
    assert container is not None
    _require_future_granting(execution, container)
    execution.account.rights.future.append(
        FutureGrant(privilege, target.kind, container, role, execution.now, grant_option)
    )


def _require_future_granting(execution: Execution, container: Securable) -> None:
    if execution.manages_grants:
        return
    schema = None
    if container.kind == "SCHEMA":
        schema = execution.account.catalog.schema(container.name)
    if schema is None or not schema.managed:
        raise errors.forbidden(container.kind, names.show(container.name))
    execution.require_ownership(container)
