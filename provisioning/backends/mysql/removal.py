"""Takes credentials away: access first, whatever their logins hold, then what is left of them.

**Out** (`end_access`) takes the login or its grant, and ends the sessions. It waits for nothing
that a tenant can hold: accounts and grants are not behind the locks of tables.
**Tidy** (`remove_databases`) drops the databases. One of many tables goes in small steps, since
a single DROP DATABASE of thousands outlasts any time-out. It takes turns of `TURN_SECONDS`, and
says when more is left.
"""

import time
from collections.abc import Sequence

from provisioning.backends.base import EngineBusy, RemovalUnfinished, Spec
from provisioning.backends.mysql.accounts import (
    account,
    count_databases,
    find_grants,
    grant_pattern,
    one_of,
)
from provisioning.backends.mysql.blockers import (
    HELD,
    held,
    roll_back_prepared,
    run_watched,
)
from provisioning.backends.mysql.inventory import ANY_HOST
from provisioning.backends.mysql.locks import Locks
from provisioning.backends.mysql.server import Server, Statements
from provisioning.backends.mysql.sessions import end_present_sessions, end_sessions
from provisioning.backends.naming import quote_mysql_name
from provisioning.state.failpoints import failpoint

#: MySQL (from 8.0.22) drops no account that a view, routine, trigger or event names as its definer:
#: https://dev.mysql.com/doc/refman/8.4/en/drop-user.html
_IS_DEFINER = frozenset({4005, 4006})
#: Seconds of one turn of tidying, after which other removals of the server come first.
TURN_SECONDS = 1.0
#: Tables that go with one DROP DATABASE, those of one small step, and those looked up at once.
MANY_TABLES, STEP, PAGE = 50, 20, 2000


# Out ------------------------------------------------------------------------------------


def end_access(run: Statements, server: Server, specs: Sequence[Spec]) -> None:
    """Drop the logins, which are nobody else's, and end their sessions.

    The login goes before its sessions do: a locked account's events would start new ones for
    ever. Sessions of a login that is gone keep its name, so a later run finds them too.
    """
    _drop_logins(run, server, specs)


def end_shared_access(run: Statements, server: Server, locks: Locks, spec: Spec) -> None:
    """Take the grant from a shared login and end its sessions in the database.

    With its last database the login goes too.
    """
    query, values = find_grants([spec])
    # An admin login that may not GRANT may not REVOKE either, so what was never granted is
    # left out.
    if run(query, *values):
        run(f"REVOKE ALL PRIVILEGES ON {grant_pattern(server, spec)}.* FROM {account(spec)}")
    failpoint("drop.revoked")
    locks.lock_login(run, server, spec)
    if count_databases(run, spec) == 0:
        if not _drop_logins(run, server, [spec]):
            # It goes with its database, and nobody may take it until then.
            return
    else:
        # A session keeps the rights on the database that it is in.
        end_sessions(run, server, [spec], only_here=True)
        # And on a table that it has opened, from wherever it is now (`HANDLER`).
        if run(f"SHOW OPEN TABLES FROM {quote_mysql_name(spec.object_name)} WHERE In_use > 0"):
            end_present_sessions(run, server, [spec])
        failpoint("drop.sessions")
    locks.unlock_login(run, spec)


def _drop_logins(run: Statements, server: Server, specs: Sequence[Spec]) -> bool:
    """Drop the logins and end their sessions; return False if one has to wait for its database."""
    logins = ", ".join(account(spec) for spec in specs)
    dropped = run.ignoring(_IS_DEFINER, f"DROP USER IF EXISTS {logins}")
    if not dropped:
        _disarm(run, specs)
    failpoint("drop.login")
    end_sessions(run, server, specs)
    failpoint("drop.sessions")
    return dropped


def _disarm(run: Statements, specs: Sequence[Spec]) -> None:
    """Drop the logins that define nothing, and leave the others without a right.

    What they define runs on as them, also while they are locked, and then fails.
    """
    for spec in specs:
        if not run.ignoring(_IS_DEFINER, f"DROP USER IF EXISTS {account(spec)}"):
            run(f"ALTER USER {account(spec)} ACCOUNT LOCK")
            run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account(spec)}")


def _drop_disarmed(run: Statements, specs: Sequence[Spec]) -> None:
    """Drop the logins that were kept until what they define was gone."""
    locked = run(
        "SELECT User FROM mysql.user "
        f"WHERE account_locked = 'Y' AND Host = %s AND {one_of('User', specs)}",
        ANY_HOST,
        *(spec.user_name for spec in specs),
    )
    names = {str(name) for (name,) in locked}
    logins = {account(spec) for spec in specs if spec.user_name in names}
    if logins:
        run(f"DROP USER IF EXISTS {', '.join(sorted(logins))}")


# Tidy -----------------------------------------------------------------------------------


def remove_databases(run: Statements, server: Server, specs: Sequence[Spec]) -> None:
    """Drop the databases, whose logins have no access any more, and look that they are gone.

    Raises ``RemovalUnfinished`` when more is left after `TURN_SECONDS`, and ``EngineBusy``
    with the names of those who hold something.
    """
    end = time.monotonic() + TURN_SECONDS
    # Only a name that stands alone is looked up: for several the server reads its directory.
    look = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s"
    counts = run(" UNION ALL ".join([look] * len(specs)), *(spec.object_name for spec in specs))
    for spec, (tables,) in zip(specs, counts, strict=True):
        if tables > MANY_TABLES:
            _drop_tables(run, server, spec, end)
        _drop_held(run, server, spec, f"DROP DATABASE IF EXISTS {_database(spec)}")
        failpoint("drop.database")
    if not server.is_mariadb:
        _drop_disarmed(run, specs)
    _require_gone(run, specs)


def _require_gone(run: Statements, specs: Sequence[Spec]) -> None:
    """Look that the databases and every grant on them are gone; a shared login may stay."""
    look = "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s"
    grants, values = find_grants(specs)
    found = run(
        " UNION ALL ".join([look] * len(specs) + [grants]),
        *(spec.object_name for spec in specs),
        *values,
    )
    if found:
        raise EngineBusy(f"server {specs[0].server}: {found[0][0]} is still there")


def _drop_tables(run: Statements, server: Server, spec: Spec, end: float) -> None:
    """Drop the tables some at a time."""
    while tables := _tables(run, spec, PAGE):
        for first in range(0, len(tables), STEP):
            if time.monotonic() > end:
                raise RemovalUnfinished(
                    f"server {spec.server}: {spec.object_name} has more tables to remove"
                )
            for sql in _drop_statements(spec, tables[first : first + STEP]):
                _drop_held(run, server, spec, sql)
        if len(tables) < PAGE:
            break


def _tables(run: Statements, spec: Spec, limit: int) -> Sequence[tuple[str, str]]:
    rows = run(
        "SELECT table_name, table_type FROM information_schema.tables "
        "WHERE table_schema = %s LIMIT %s",
        spec.object_name,
        limit,
    )
    return [(str(name), str(kind)) for name, kind in rows]


def _drop_statements(spec: Spec, tables: Sequence[tuple[str, str]]) -> list[str]:
    """Return the statements that drop some tables and views."""
    views = [name for name, kind in tables if kind == "VIEW"]
    others = [name for name, kind in tables if kind != "VIEW"]
    return [
        f"DROP {kind} IF EXISTS "
        + ", ".join(f"{_database(spec)}.{quote_mysql_name(name)}" for name in names)
        for kind, names in (("VIEW", views), ("TABLE", others))
        if names
    ]


def _drop_held(run: Statements, server: Server, spec: Spec, sql: str) -> None:
    """Drop something, past what the login's own sessions and transactions hold of it."""
    if run.ignoring(HELD, sql):
        return
    # A session that has moved on to another database of the login still holds a table here.
    end_present_sessions(run, server, [spec])
    holders = run_watched(run, server, sql)
    if holders is None:
        return
    if roll_back_prepared(run, holders) and run.ignoring(HELD, sql):
        return
    raise held(run, server, spec, holders)


def _database(spec: Spec) -> str:
    return quote_mysql_name(spec.object_name)
