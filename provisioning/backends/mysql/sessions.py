"""Ends the sessions of logins."""

import time
from collections.abc import Sequence

from pymysql.constants import ER

from provisioning.backends.base import EngineBusy, Spec
from provisioning.backends.mysql.accounts import one_of
from provisioning.backends.mysql.server import Server, Statements
from provisioning.configuration.backoff import Backoff

#: Seconds between two looks whether sessions have ended.
LOOK_AGAIN = Backoff(0.001, 0.1)
#: Seconds until killed sessions must be gone.
SESSIONS_PATIENCE = 8.0
#: Seconds after which sessions that are killed, and only still roll back, are not waited for:
#: they take no further statement, and what they undo can take minutes.
ROLLBACK_PATIENCE = 2.0


def end_sessions(
    run: Statements, server: Server, specs: Sequence[Spec], *, only_here: bool = False
) -> int:
    """End the logins' sessions, with ``only_here`` those in their databases; return how many.

    Returns once none is left, so the logins must not be able to come back.
    """
    return _end(run, server, specs, only_here=only_here, also_new=True)


def end_present_sessions(
    run: Statements, server: Server, specs: Sequence[Spec], *, only_here: bool = False
) -> int:
    """End the sessions that there are now of logins that can come back; return how many."""
    return _end(run, server, specs, only_here=only_here, also_new=False)


def _end(
    run: Statements, server: Server, specs: Sequence[Spec], *, only_here: bool, also_new: bool
) -> int:
    # Events run as their definer, in sessions that are listed like those of clients.
    query = f"SELECT id, command FROM {server.processlist} WHERE {one_of('user', specs)}"
    values = [spec.user_name for spec in specs]
    if only_here:
        query += f" AND {one_of('db', specs)}"
        values += [spec.object_name for spec in specs]
    ended: set[int] = set()
    start, pauses = time.monotonic(), LOOK_AGAIN.pauses()
    while sessions := {int(row[0]): row[1] for row in run(query, *values)}:
        if ended and not also_new:
            sessions = {id_: command for id_, command in sessions.items() if id_ in ended}
        living = [id_ for id_, command in sessions.items() if command != "Killed"]
        waited = time.monotonic() - start
        if not sessions or (not living and waited > ROLLBACK_PATIENCE):
            break
        if waited > SESSIONS_PATIENCE:
            raise EngineBusy(f"server {specs[0].server}: sessions do not end")
        for session in living:
            run.ignoring({ER.NO_SUCH_THREAD}, f"KILL CONNECTION {session}")
        ended.update(sessions)
        time.sleep(next(pauses))
    return len(ended)
