"""What a Redshift or PostgreSQL server has that bears the installation's prefix.

Logins are the whole server's, schemas the configured database's. Both names are made of the
credential's id alone, so each can be derived from the other.
"""

import re

from provisioning.backends.base import ServerObject, Spec
from provisioning.backends.naming import ID_PATTERN
from provisioning.backends.redshift.server import Statements

_SCHEMA = re.compile(f"workspace_{ID_PATTERN}")
_LOGIN = re.compile(f"sapi_workspace_{ID_PATTERN}")


def take_inventory(run: Statements, server: str, prefix: str) -> list[ServerObject]:
    """Return the schemas and logins that bear the prefix, which the server keeps in lower case."""
    ours = prefix.lower()
    schemas = run("SELECT nspname FROM pg_namespace WHERE LEFT(nspname, %s) = %s", len(ours), ours)
    logins = run("SELECT usename FROM pg_user WHERE LEFT(usename, %s) = %s", len(ours), ours)
    found = [
        *(
            ServerObject(
                server, "schema", name, object_name=name, spec=_spec(server, ours, name, _SCHEMA)
            )
            for (name,) in schemas
        ),
        *(
            ServerObject(
                server, "login", name, user_name=name, spec=_spec(server, ours, name, _LOGIN)
            )
            for (name,) in logins
        ),
    ]
    return [one for one in found if prefix or one.spec]


def _spec(server: str, prefix: str, name: str, form: re.Pattern[str]) -> Spec | None:
    found = form.fullmatch(name, len(prefix))
    if found is None:
        return None
    number = int(found[1])
    user, schema = f"{prefix}sapi_workspace_{number}", f"{prefix}workspace_{number}"
    return Spec(number, "", server, user, schema)
