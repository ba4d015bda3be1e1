"""Roles, what each of them may do, and which roles it takes along."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from snowflake_simulator import names

OWNERSHIP = "OWNERSHIP"
MANAGE_GRANTS = "MANAGE GRANTS"
PUBLIC = "PUBLIC"
ADMIN = "ACCOUNTADMIN"

#: The privileges that exist on each kind of object; ALL stands for these.
PRIVILEGES: dict[str, tuple[str, ...]] = {
    "ACCOUNT": (
        "CREATE DATABASE",
        "CREATE ROLE",
        "CREATE USER",
        "CREATE WAREHOUSE",
        MANAGE_GRANTS,
        "MANAGE WAREHOUSES",
        "MONITOR",
        "MONITOR USAGE",
        "EXECUTE TASK",
    ),
    "USER": ("MODIFY PROGRAMMATIC AUTHENTICATION METHODS", "MONITOR"),
    "ROLE": (),
    "WAREHOUSE": ("MODIFY", "MONITOR", "OPERATE", "USAGE"),
    "DATABASE": (
        "CREATE DATABASE ROLE",
        "CREATE SCHEMA",
        "IMPORTED PRIVILEGES",
        "MODIFY",
        "MONITOR",
        "USAGE",
    ),
    "SCHEMA": (
        "CREATE FILE FORMAT",
        "CREATE FUNCTION",
        "CREATE PIPE",
        "CREATE PROCEDURE",
        "CREATE SEQUENCE",
        "CREATE STAGE",
        "CREATE STREAM",
        "CREATE TABLE",
        "CREATE TASK",
        "CREATE TEMPORARY TABLE",
        "CREATE VIEW",
        "MODIFY",
        "MONITOR",
        "USAGE",
    ),
    "TABLE": ("DELETE", "INSERT", "REFERENCES", "SELECT", "TRUNCATE", "UPDATE"),
    "VIEW": ("DELETE", "INSERT", "REFERENCES", "SELECT", "TRUNCATE", "UPDATE"),
}


@dataclass(frozen=True)
class Securable:
    """Something that rights are held on."""

    kind: str
    name: names.ObjectName = ()

    @property
    def shown(self) -> str:
        return names.show(self.name)

    def inside(self, container: "Securable") -> bool:
        size = len(container.name)
        return container.kind in ("DATABASE", "SCHEMA") and self.name[:size] == container.name


ACCOUNT = Securable("ACCOUNT")


@dataclass
class Grant:
    privilege: str
    on: Securable
    role: str
    granted_by: str
    created_on: datetime
    grant_option: bool = False


@dataclass(frozen=True)
class FutureGrant:
    """A right on every object of a kind that will be made inside a container."""

    privilege: str
    kind: str
    container: Securable
    role: str
    created_on: datetime
    grant_option: bool = False


@dataclass
class Role:
    name: str
    created_on: datetime
    comment: str = ""
    #: The roles whose rights this one takes along, and when it was granted them.
    roles: dict[str, datetime] = field(default_factory=dict)


class Rights:
    """Every grant of the account. Callers hold the account's lock."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self._grants: dict[Securable, dict[tuple[str, str], Grant]] = {}
        self._held: dict[str, set[Securable]] = {}
        self.future: list[FutureGrant] = []

    # Roles ---------------------------------------------------------------------------

    def inherited(self, roles: Iterable[str]) -> set[str]:
        """Return the roles with all that they take along, PUBLIC among them."""
        found = {PUBLIC}
        waiting = list(roles)
        while waiting:
            role = waiting.pop()
            if role in self.roles and role not in found:
                found.add(role)
                waiting += self.roles[role].roles
        return found

    def drop_role(self, name: str, heir: str, now: datetime) -> None:
        """Remove a role; what it owned goes to the role that drops it."""
        for on in list(self._held.get(name, ())):
            owned = self._grants[on].get((OWNERSHIP, name))
            self._remove(on, lambda grant: grant.role == name)
            if owned is not None and on != Securable("ROLE", (name,)):
                self.grant(Grant(OWNERSHIP, on, heir, heir, now, True))
        self.forget(Securable("ROLE", (name,)))
        self.future = [grant for grant in self.future if grant.role != name]
        self.roles.pop(name, None)
        for role in self.roles.values():
            role.roles.pop(name, None)

    # Grants --------------------------------------------------------------------------

    def grant(self, grant: Grant) -> None:
        held = self._grants.setdefault(grant.on, {})
        known = held.get((grant.privilege, grant.role))
        if known is None:
            held[grant.privilege, grant.role] = grant
            self._held.setdefault(grant.role, set()).add(grant.on)
        else:
            known.grant_option = known.grant_option or grant.grant_option

    def revoke(self, privilege: str, on: Securable, role: str) -> None:
        self._remove(on, lambda grant: (grant.privilege, grant.role) == (privilege, role))

    def revoke_option(self, privilege: str, on: Securable, role: str) -> None:
        grant = self._grants.get(on, {}).get((privilege, role))
        if grant is not None:
            grant.grant_option = False

    def revoke_all(self, on: Securable) -> None:
        """Take every right on an object but its ownership."""
        self._remove(on, lambda grant: grant.privilege != OWNERSHIP)

    def set_owner(self, on: Securable, role: str, now: datetime) -> None:
        self._remove(on, lambda grant: grant.privilege == OWNERSHIP)
        self.grant(Grant(OWNERSHIP, on, role, role, now, True))

    def created(self, on: Securable, owner: str, now: datetime) -> None:
        """Give a new object its owner and the rights that were granted in advance."""
        self.set_owner(on, owner, now)
        applicable = [grant for grant in self.future if self._applies(grant, on)]
        # Grants on the schema hide those on the database, as the server documents.
        closest = max((len(grant.container.name) for grant in applicable), default=0)
        for grant in applicable:
            if len(grant.container.name) < closest:
                continue
            if grant.privilege == OWNERSHIP:
                self.set_owner(on, grant.role, now)
            else:
                self.grant(Grant(grant.privilege, on, grant.role, owner, now, grant.grant_option))

    def forget(self, gone: Securable) -> None:
        """Remove all rights on an object that was dropped, and on what was inside it."""
        for on in [on for on in self._grants if on == gone or on.inside(gone)]:
            self._remove(on, lambda _: True)
        self.future = [
            grant
            for grant in self.future
            if grant.container != gone and not grant.container.inside(gone)
        ]

    def renamed(self, old: Securable, new: Securable) -> None:
        moved = self.on(old)
        self._remove(old, lambda _: True)
        for grant in moved:
            grant.on = new
            self.grant(grant)

    # Questions -----------------------------------------------------------------------

    def on(self, on: Securable) -> list[Grant]:
        return list(self._grants.get(on, {}).values())

    def held_by(self, role: str) -> Iterator[Grant]:
        for on in sorted(self._held.get(role, ()), key=lambda on: (on.kind, on.name)):
            yield from (grant for grant in self._grants[on].values() if grant.role == role)

    def owner(self, on: Securable) -> str:
        """Return the role that owns an object; system objects have none."""
        return next((grant.role for grant in self.on(on) if grant.privilege == OWNERSHIP), "")

    def allows(self, roles: Collection[str], privilege: str, on: Securable) -> bool:
        """Whether one of the roles has the privilege, or owns the object."""
        held = self._grants.get(on, {})
        return any((privilege, role) in held or (OWNERSHIP, role) in held for role in roles)

    def owns(self, roles: Collection[str], on: Securable) -> bool:
        return self.owner(on) in roles

    def knows(self, roles: Collection[str], on: Securable) -> bool:
        """Whether one of the roles has any right on an object, and so may see it."""
        return any(grant.role in roles for grant in self._grants.get(on, {}).values())

    def may_pass_on(self, roles: Collection[str], privilege: str, on: Securable) -> bool:
        return any(
            grant.role in roles and grant.grant_option and grant.privilege in (privilege, OWNERSHIP)
            for grant in self.on(on)
        )

    # Inside --------------------------------------------------------------------------

    def _applies(self, grant: FutureGrant, on: Securable) -> bool:
        return grant.kind == on.kind and on.inside(grant.container)

    def _remove(self, on: Securable, unwanted: Callable[[Grant], bool]) -> None:
        held = self._grants.get(on, {})
        for key, grant in list(held.items()):
            if unwanted(grant):
                del held[key]
                if not any(other.role == grant.role for other in held.values()):
                    self._held[grant.role].discard(on)
        if not held:
            self._grants.pop(on, None)
