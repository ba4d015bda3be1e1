"""Finds who keeps a statement of ours waiting, for the failure's text.

A session that waits cannot look, so the statement runs on a thread of its own meanwhile, and
another connection looks at what it waits for.
"""

from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait

from pymysql.constants import ER

from provisioning.backends.base import EngineBusy, Spec
from provisioning.backends.mysql.server import Server, Statements

#: Errors that say that somebody else holds what a statement needs. One that waits for many tables
#: waits for each, until MariaDB ends it (1969).
HELD = frozenset({ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, 1969})
#: Seconds between two looks; MariaDB renews the picture of transactions ten times a second.
LOOK_SECONDS = 0.15
#: Holders that a failure's text names.
NAMED = 5
#: Errors of a prepared transaction that is gone, or had nothing to undo.
_XA_OVER = {1397, 1402}

#: What a session's transaction waits for: transactions, and their sessions. 0 is none: prepared
#: for a two-phase commit (XA), whose session is over.
_WAITS = """
SELECT holder.trx_id, holder.trx_mysql_thread_id FROM information_schema.innodb_lock_waits AS w
JOIN information_schema.innodb_trx AS ours ON ours.trx_id = w.requesting_trx_id
JOIN information_schema.innodb_trx AS holder ON holder.trx_id = w.blocking_trx_id
WHERE ours.trx_mysql_thread_id = %s
"""
_DETACHED = "SELECT trx_id FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = 0"

#: Transactions that hold something, and their sessions.
Holders = set[tuple[int, int]]


def run_watched(run: Statements, server: Server, sql: str) -> Holders | None:
    """Run a statement; return None when it is done, or else what it has waited for."""
    found: Holders = set()
    with ThreadPoolExecutor(1) as thread, server.statements_aside() as look:
        ((session,),) = run("SELECT CONNECTION_ID()")
        done: Future[bool] = thread.submit(run.ignoring, HELD, sql)
        while not wait([done], LOOK_SECONDS).done:
            if server.is_mariadb:
                found |= {(int(trx), int(holder)) for trx, holder in look(_WAITS, session)}
        return None if done.result() else found


def roll_back_prepared(run: Statements, holders: Holders) -> bool:
    """Roll back prepared transactions that hold something, if they can be told from others.

    The server lists the names of all prepared transactions and not what each one holds. So only
    when those in the way are all there are, the names are theirs.
    """
    in_the_way = {trx for trx, session in holders if not session}
    names = _prepared(run)
    detached = {int(trx) for (trx,) in run(_DETACHED)}
    if not in_the_way or detached != in_the_way or len(names) != len(in_the_way):
        return False
    for name in names:
        run.ignoring(_XA_OVER, f"XA ROLLBACK {name}")
    return True


def held(run: Statements, server: Server, spec: Spec, holders: Holders) -> EngineBusy:
    """Return the failure of a removal that others hold up, with their names."""
    sessions = {session for _, session in holders if session}
    names = _name_sessions(run, server, sessions) if holders else _name_suspects(run, server, spec)
    if not sessions:
        names += [f"XA transaction {name}" for name in _prepared(run)]
    # More than are named, or none that can be seen.
    more = ["others"] if len(names) > NAMED or not names else []
    return EngineBusy(
        f"server {spec.server}: {spec.object_name} is held by "
        + (", ".join if holders else " or ".join)([*names[:NAMED], *more])
    )


def _name_sessions(run: Statements, server: Server, sessions: Collection[int]) -> list[str]:
    if not sessions:
        return []
    listed = ", ".join(str(session) for session in sorted(sessions))
    return _described(
        run(f"SELECT id, user, command FROM {server.processlist} WHERE id IN ({listed})")
    )


def _name_suspects(run: Statements, server: Server, spec: Spec) -> list[str]:
    """Name those who can hold a table without waiting to be seen: the server does not tell."""
    return _described(
        run(
            f"SELECT id, user, command FROM {server.processlist} WHERE id <> CONNECTION_ID() "
            "AND (db = %s OR id IN (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx))"
            " ORDER BY db = %s DESC, id",
            spec.object_name,
            spec.object_name,
        )
    )


def _described(rows: Collection[tuple[int, str, str]]) -> list[str]:
    return [
        f"session {int(id_)} of {user}" + (", which rolls back" if command == "Killed" else "")
        for id_, user, command in rows
    ]


def _prepared(run: Statements) -> list[str]:
    """Return the names of all prepared transactions, as XA statements take them."""
    names = []
    for format_, length, _, data in run("XA RECOVER"):
        raw = data if isinstance(data, bytes) else str(data).encode()
        parts = (raw[: int(length)], raw[int(length) :])
        written = ",".join(f"0x{part.hex()}" if part else "''" for part in parts)
        names.append(f"{written},{int(format_)}")
    return names
