"""Takes a workspace away: access first, whatever its login holds, then what is left of it.

**Out** (`end_access`) locks the login and ends its sessions. What the login has locked cannot hold
it up for long: sessions in the way are ended (`blockers`), prepared transactions rolled back.
**Tidy** (`remove_objects`) drops the objects. A workspace of many objects goes in small steps,
each a transaction of its own, since one DROP SCHEMA of thousands of tables needs more locks than
a server has. It takes turns of `TURN_SECONDS` and says when more is left.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import errorcodes

from provisioning.backends.base import EngineBusy, EngineError, RemovalUnfinished, Spec
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.blockers import Blockers, roll_back_prepared
from provisioning.backends.redshift.detach import detach_login
from provisioning.backends.redshift.server import Server, Statements
from provisioning.configuration.backoff import Backoff
from provisioning.configuration.secrets import generate_password
from provisioning.state.failpoints import failpoint

_UNDEFINED = {errorcodes.UNDEFINED_OBJECT, errorcodes.INVALID_SCHEMA_NAME}
#: What a second attempt gets over, once those in the way were ended: a lock that was waited for,
#: a row that another transaction has changed meanwhile, a right that the login took from us.
_HELD_UP = {
    errorcodes.LOCK_NOT_AVAILABLE,
    errorcodes.QUERY_CANCELED,
    errorcodes.DEADLOCK_DETECTED,
    errorcodes.INTERNAL_ERROR,
    errorcodes.INSUFFICIENT_PRIVILEGE,
}
#: Seconds until access must have ended.
OUT_SECONDS = 8.0
#: Seconds between two looks whether sessions have ended.
LOOK_AGAIN = Backoff(0.002, 0.1)
#: Seconds of one turn of tidying, after which other removals of the server come first.
TURN_SECONDS = 1.0
#: Objects that go with one DROP SCHEMA, or in one small step.
MANY_OBJECTS, STEP = 200, 50

#: What a schema holds, the newest first: what depends on others goes before them.
_IN_SCHEMA = """
SELECT what.type, what.identity, d.objid FROM pg_depend AS d
JOIN pg_namespace AS n ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid,
LATERAL pg_identify_object(d.classid, d.objid, 0) AS what
WHERE n.nspname = %s AND d.deptype = 'n' ORDER BY d.objid DESC LIMIT %s
"""
_COUNT_IN_SCHEMA = """
SELECT count(*) FROM pg_depend AS d
JOIN pg_namespace AS n ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
WHERE n.nspname = %s AND d.deptype = 'n'
"""
#: What a login owns in the current database.
_OWNED = """
SELECT what.type, what.identity, d.objid FROM pg_shdepend AS d,
LATERAL pg_identify_object(d.classid, d.objid, 0) AS what
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.objsubid = 0
AND d.classid <> 'pg_default_acl'::regclass
AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY d.objid DESC LIMIT %s
"""
#: The other databases in which a login owns something or was granted something.
_ELSEWHERE = """
SELECT DISTINCT b.datname FROM pg_shdepend AS d JOIN pg_database AS b ON b.oid = d.dbid
WHERE d.refclassid = 'pg_authid'::regclass AND b.datname <> current_database()
AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
#: Where DROP has another word than the catalog.
_KINDS = {"composite type": "TYPE", "statistics object": "STATISTICS"}


# Out ------------------------------------------------------------------------------------


def end_access(run: Statements, server: Server, spec: Spec, blockers: Blockers) -> bool:
    """Lock the login and end its sessions; return whether there is a login.

    Raises ``EngineBusy`` after `OUT_SECONDS`.
    """
    end = time.monotonic() + OUT_SECONDS
    user = quote_sql_name(spec.user_name)
    # A dropped user's session loses its name in the catalog, so sessions end first: with the
    # password and the connections gone, nobody comes back meanwhile.
    values = () if server.dialect.is_postgresql else (generate_password().reveal(),)
    password = "%s" if values else "NULL"
    lock = f"ALTER USER {user} WITH PASSWORD {password} CONNECTION LIMIT 0"
    while True:
        with held_up(run, spec, blockers, end):
            has_login = run.ignoring(_UNDEFINED, lock, *values)
            break
    failpoint("drop.login_locked")
    while True:
        with held_up(run, spec, blockers, end):
            end_sessions(run, server, spec)
            if server.has_prepared:
                roll_back_prepared(server, run, spec)
            break
    failpoint("drop.sessions")
    return has_login


@contextmanager
def held_up(run: Statements, spec: Spec, blockers: Blockers, end: float) -> Iterator[None]:
    """Let the block be repeated while something holds it up and there is time."""
    try:
        yield
    except EngineError as problem:
        if problem.code not in _HELD_UP:
            raise
        if time.monotonic() > end:
            raise _named(problem, blockers) from None
        if problem.code == errorcodes.INSUFFICIENT_PRIVILEGE:
            # A login may leave the admin's roles (PostgreSQL up to 15).
            try:
                run(f"GRANT {quote_sql_name(spec.user_name)} TO CURRENT_USER")
            except EngineError:
                raise problem from None


def _named(problem: EngineError, blockers: Blockers) -> EngineError:
    """Return the error with the names of those in the way."""
    if not blockers.others:
        return problem
    return EngineBusy(f"{problem.args[0]}; held up by {blockers}", problem.code)


def end_sessions(run: Statements, server: Server, spec: Spec) -> int:
    """End the login's sessions and return how many, once they are gone from the list."""
    query = (
        f"SELECT process FROM ({server.dialect.sessions}) AS sessions (process, name, db) "
        "WHERE name = %s"
    )
    ended: set[int] = set()
    end, pauses = time.monotonic() + OUT_SECONDS, LOOK_AGAIN.pauses()
    while sessions := [int(row[0]) for row in run(query, spec.user_name)]:
        if time.monotonic() > end:
            raise EngineBusy(f"server {spec.server}: sessions do not end")
        for session in sessions:
            run("SELECT pg_terminate_backend(%s)", session)
        ended.update(sessions)
        time.sleep(next(pauses))
    return len(ended)


# Tidy -----------------------------------------------------------------------------------


def remove_objects(
    run: Statements, server: Server, spec: Spec, blockers: Blockers, *, has_login: bool
) -> None:
    """Drop the schema with all in it, and the login with what it has elsewhere.

    Raises ``RemovalUnfinished`` when more is left after `TURN_SECONDS`, and an ``EngineError``
    that names who is in the way.
    """
    end = time.monotonic() + TURN_SECONDS
    try:
        _drop_schema(run, server, spec, end)
        failpoint("drop.schema")
        # Who may not make logins may not ask to drop one that is missing either.
        if has_login:
            _drop_login(run, server, spec, end)
        failpoint("drop.login")
    except EngineError as problem:
        raise _named(problem, blockers) from None


def _drop_schema(run: Statements, server: Server, spec: Spec, end: float) -> None:
    if server.dialect.is_postgresql:
        ((objects,),) = run(_COUNT_IN_SCHEMA, spec.object_name)
        if objects > MANY_OBJECTS:
            _drop_in_steps(run, spec, _IN_SCHEMA, spec.object_name, end)
    run(f"DROP SCHEMA IF EXISTS {quote_sql_name(spec.object_name)} CASCADE")


def _drop_in_steps(run: Statements, spec: Spec, query: str, name: str, end: float) -> None:
    """Drop what the query finds, some at a time; fewer where they need too many locks."""
    size = STEP
    while found := run(query, name, size):
        try:
            run("; ".join(_drop_statement(*row) for row in found))
        except EngineError as problem:
            if problem.code != errorcodes.OUT_OF_MEMORY or size == 1:
                raise
            size = max(size // 4, 1)
        if time.monotonic() > end:
            raise RemovalUnfinished(f"server {spec.server}: {name} has more to remove")


def _drop_statement(kind: str, identity: str, number: int) -> str:
    # The server quotes what it identifies.
    if kind == "large object":
        return f"SELECT lo_unlink({int(number)})"
    return f"DROP {_KINDS.get(kind, kind)} IF EXISTS {identity} CASCADE"


def _drop_login(run: Statements, server: Server, spec: Spec, end: float) -> None:
    user = quote_sql_name(spec.user_name)
    if run.ignoring({server.dialect.still_needed}, f"DROP USER IF EXISTS {user}"):
        return
    # It made things outside its schema, or others gave it rights.
    if server.dialect.is_postgresql:
        _drop_owned(run, spec, end)
        for (database,) in run(_ELSEWHERE, spec.user_name):
            with server.statements_in(database) as there:
                _drop_owned(there, spec, end)
    else:
        detach_login(run, spec.user_name)
    run(f"DROP USER IF EXISTS {user}")


def _drop_owned(run: Statements, spec: Spec, end: float) -> None:
    """Drop what the login owns in a database, and take its rights there away."""
    _drop_in_steps(run, spec, _OWNED, spec.user_name, end)
    run(f"DROP OWNED BY {quote_sql_name(spec.user_name)} CASCADE")


def require_gone(run: Statements, spec: Spec) -> None:
    """Look that login and schema are gone."""
    ((users, schemas),) = run(
        "SELECT (SELECT COUNT(*) FROM pg_user WHERE usename = %s), "
        "(SELECT COUNT(*) FROM pg_namespace WHERE nspname = %s)",
        spec.user_name,
        spec.object_name,
    )
    if users or schemas:
        raise EngineBusy(f"server {spec.server}: {spec.object_name} is still there")
