"""What a Snowflake account has that bears the installation's prefix.

The names of the user, the role and the schema are made of the credential's id. Only the schema
itself shows its database.
"""

import re
from collections.abc import Iterator

from provisioning.backends.base import ServerObject, Spec
from provisioning.backends.naming import ID_PATTERN, build_name
from provisioning.backends.snowflake.server import PART_LIMIT, Row, Statements, quote_text
from provisioning.configuration.servers import SnowflakeServer

#: Rows of one SHOW: the server gives no more than these.
PAGE = 10_000
_SCHEMA = re.compile(f"WORKSPACE_{ID_PATTERN}")
_LOGIN = re.compile(f"SAPI_WORKSPACE_{ID_PATTERN}")


def take_inventory(run: Statements, config: SnowflakeServer, prefix: str) -> list[ServerObject]:
    """Return the schemas, users and roles that bear the prefix, kept in upper case."""
    names = _NameReader(config, prefix.upper())
    found = [
        # First: they show the databases that the others need.
        *map(names.schema, _shown(run, "SHOW TERSE SCHEMAS IN ACCOUNT", names.prefix)),
        *(names.login("login", row) for row in _shown(run, "SHOW USERS", names.prefix)),
        *(names.login("role", row) for row in _shown(run, "SHOW ROLES", names.prefix)),
    ]
    return [one for one in found if prefix or one.spec]


class _NameReader:
    """Reads the names of an account's objects."""

    def __init__(self, config: SnowflakeServer, prefix: str) -> None:
        self.prefix = prefix
        self._server = config.name
        self._databases: dict[int, str] = {}
        # For a workspace without its schema, only the schema's name is known.
        wanted = config.database.replace("{project}", "0")
        self._elsewhere = build_name("", wanted, limit=PART_LIMIT).upper()

    def schema(self, row: Row) -> ServerObject:
        number = self._number(row, _SCHEMA)
        if number is not None:
            self._databases[number] = str(row["database_name"])
        name = f"{row['database_name']}.{row['name']}"
        spec = None if number is None else self._spec(number)
        return ServerObject(
            self._server, "schema", name, object_name=name, spec=spec, created_at=_created(row)
        )

    def login(self, kind: str, row: Row) -> ServerObject:
        name, number = str(row["name"]), self._number(row, _LOGIN)
        spec = None if number is None else self._spec(number)
        return ServerObject(
            self._server, kind, name, user_name=name, spec=spec, created_at=_created(row)
        )

    def _number(self, row: Row, form: re.Pattern[str]) -> int | None:
        found = form.fullmatch(str(row["name"]), len(self.prefix))
        return None if found is None else int(found[1])

    def _spec(self, number: int) -> Spec:
        database = self._databases.get(number, self._elsewhere)
        return Spec(
            number,
            "",
            self._server,
            f"{self.prefix}SAPI_WORKSPACE_{number}",
            f"{database}.{self.prefix}WORKSPACE_{number}",
        )


def _created(row: Row) -> int:
    return int(row["created_on"].timestamp() * 1000)


def _shown(run: Statements, statement: str, prefix: str) -> Iterator[Row]:
    """Return what a SHOW lists with the prefix, whose case counts, page by page."""
    start = f" STARTS WITH {quote_text(prefix)}" if prefix else ""
    after = ""
    while True:
        rows = run(f"{statement}{start} LIMIT {PAGE}{after}")
        yield from rows
        if len(rows) < PAGE:
            return
        after = f" FROM {quote_text(str(rows[-1]['name']))}"
