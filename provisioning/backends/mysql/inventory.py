"""What a MySQL server has that bears the installation's prefix.

Names are read strictly: an object that another installation or an operator gave a similar name
is listed without a credential, so nobody takes it for ours.
"""

import re

from provisioning.backends.base import ServerObject, Spec
from provisioning.backends.mysql.server import Statements
from provisioning.backends.naming import (
    ID_PATTERN,
    PROJECT_PATTERN,
    USER_NAME_LIMIT,
    bears_prefix,
    build_name,
    person_name_part,
)

TYPES = {"sand": "sandbox", "tran": "transformations"}
ANY_HOST = "%"
_OWN = re.compile(f"(sand|tran)_{PROJECT_PATTERN}_{ID_PATTERN}")
_PERSON = re.compile(f"[0-9]+|t{ID_PATTERN}")


def take_inventory(run: Statements, server: str, prefix: str) -> list[ServerObject]:
    """Return the databases, logins and grants that bear the prefix."""
    # With this setting the server keeps databases in lower case.
    ((folded,),) = run("SELECT @@lower_case_table_names <> 0")
    start = (len(prefix), prefix)
    databases = run(
        "SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, %s) = %s",
        *start,
    )
    logins = run("SELECT User, Host FROM mysql.user WHERE LEFT(User, %s) = %s", *start)
    grants = run(
        "SELECT User, Db FROM mysql.db WHERE Host = %s AND LEFT(User, %s) = %s", ANY_HOST, *start
    )
    names = NameReader(server, prefix)
    granted = [
        grant
        for user, pattern in sorted(grants)
        # The server may compare without regard to case.
        if bears_prefix(user, prefix) and (grant := names.grant(user, pattern.replace("\\", "")))
    ]
    users = {one.object_name: one.user_name for one in granted}
    found = [
        *(
            names.database(name, users.get(name))
            for (name,) in databases
            if bears_prefix(name, prefix, folded=bool(folded))
        ),
        *(names.login(*row) for row in logins if bears_prefix(row[0], prefix)),
        *granted,
    ]
    return [one for one in found if prefix or one.spec]


class NameReader:
    """Reads the names of one server's objects."""

    def __init__(self, server: str, prefix: str) -> None:
        self._server, self._prefix = server, prefix

    def database(self, name: str, user: str | None) -> ServerObject:
        """Read a database; a sandbox's owner is known only from its grant."""
        spec = self._spec(name, user or "")
        return ServerObject(self._server, "database", name, object_name=name, spec=spec)

    def login(self, name: str, host: str) -> ServerObject:
        if host != ANY_HOST:
            return ServerObject(self._server, "login", f"{name}@{host}", user_name=f"{name}@{host}")
        spec = self._spec(name, name)
        if self._is_shared(name):
            spec = Spec(0, "sandbox", self._server, name, "")
        elif spec is not None and spec.type == "sandbox":
            # Sandboxes have no logins of their own.
            spec = None
        return ServerObject(self._server, "login", name, user_name=name, spec=spec)

    def grant(self, user: str, database: str) -> ServerObject | None:
        """Read a grant on a database of ours to the login it is for; None for any other."""
        spec = self._spec(database, user)
        if spec is None or spec.user_name != user:
            return None
        if spec.type == "sandbox" and not self._is_shared(user):
            return None
        name = f"{user} on {database}"
        return ServerObject(
            self._server, "grant", name, user_name=user, object_name=database, spec=spec
        )

    def _spec(self, database: str, user: str) -> Spec | None:
        found = _OWN.fullmatch(database, len(self._prefix))
        if found is None:
            return None
        kind, project, number = found.groups()
        if kind == "tran":
            user = build_name(self._prefix, kind, project, number, limit=USER_NAME_LIMIT)
        return Spec(int(number), TYPES[kind], self._server, user, database)

    def _is_shared(self, login: str) -> bool:
        """Return whether a login's name is a person's, as `plan` chooses it."""
        kind, _, person = login[len(self._prefix) :].partition("_")
        if kind != "user":
            return False
        id_ = person.rpartition("_")[0]
        return bool(_PERSON.fullmatch(person) or (id_ and person == person_name_part(id_, "")))
