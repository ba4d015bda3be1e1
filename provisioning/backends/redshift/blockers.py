"""Ends the sessions of workspaces that hold up a statement of the admin login.

A removal waits for what its login, or another workspace, has locked: a row of the catalog, a
table, a schema. Whatever waits is first in the queue of that lock, so it goes on as soon as those
before it are ended, however many more come after. The sessions of anybody else are left alone
and named.
"""

import threading
from types import TracebackType
from typing import Any, Self

import psycopg2
import structlog

from provisioning.backends.base import EngineError, Spec
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.server import Server, Statements, translate

log = structlog.get_logger()

#: Seconds that a statement may run until somebody looks what holds it up.
PATIENCE = 0.1
#: Seconds between two looks.
PAUSE = 0.05

_BLOCKERS = """
SELECT blocker.pid, activity.usename, activity.usename LIKE %s
FROM (SELECT DISTINCT unnest(pg_blocking_pids(%s)) AS pid) AS blocker
LEFT JOIN pg_stat_activity AS activity USING (pid)
"""


class Blockers:
    """Watches one connection's statements while the block runs, from a connection of its own.

    That one is opened only when a statement takes longer than `PATIENCE` seconds.
    """

    def __init__(self, server: Server, run: Statements, spec: Spec) -> None:
        self._server, self._run, self._spec = server, run, spec
        self._ours = _logins_like(spec)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="blockers", daemon=True)
        #: Who held up the last statement and is not ours to end.
        self.others: set[str] = set()

    def __enter__(self) -> Self:
        if self._server.dialect.is_postgresql:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def __str__(self) -> str:
        return ", ".join(sorted(self.others))

    def _watch(self) -> None:
        connection: Any = None
        try:
            while not self._ended.wait(PATIENCE if connection is None else PAUSE):
                if self._run.seconds < PATIENCE:
                    continue
                if connection is None:
                    connection = self._server.connect_admin()
                self._end_blockers(Statements(connection, self._spec.server, lambda: None))
        except psycopg2.Error as problem:
            log.warning("blockers_not_seen", failure=str(translate(problem, self._spec.server)))
        except EngineError as problem:
            log.warning("blockers_not_seen", failure=str(problem.args[0]))
        finally:
            if connection is not None:
                connection.close()

    def _end_blockers(self, run: Statements) -> None:
        others = set()
        for process, user, is_ours in run(_BLOCKERS, self._ours, self._run.process):
            if not process:
                others |= self._roll_back(run)
            elif is_ours or user is None:
                # The session of a dropped login has no name any more.
                run("SELECT pg_terminate_backend(%s)", process)
                log.info("blocker_ended", server=self._spec.server, login=user)
            else:
                others.add(f"session {process} of {user}")
        self.others = others

    def _roll_back(self, run: Statements) -> set[str]:
        """Roll back the login's own prepared transactions; return the names of all others."""
        roll_back_prepared(self._server, run, self._spec)
        return {
            f"prepared transaction {name!r} of {owner}"
            for name, owner in run("SELECT gid, owner FROM pg_prepared_xacts")
            if owner != self._spec.user_name
        }


def _logins_like(spec: Spec) -> str:
    """Return the pattern of all workspaces' logins: they differ in the number at the end."""
    stem = spec.user_name.removesuffix(str(spec.credentials_id))
    return stem.replace("_", r"\_") + "%"


def roll_back_prepared(server: Server, run: Statements, spec: Spec) -> None:
    """Roll back what the login has prepared and not committed, in whatever database.

    Only its owner may, so the admin login takes the owner's role for it.
    """
    found = run(
        "SELECT gid, database, database = current_database() FROM pg_prepared_xacts "
        "WHERE owner = %s",
        spec.user_name,
    )
    for name, database, is_here in found:
        if is_here:
            _roll_back(run, spec, name)
            continue
        with server.statements_in(database) as there:
            _roll_back(there, spec, name)


def _roll_back(run: Statements, spec: Spec, name: str) -> None:
    run(f"SET ROLE {quote_sql_name(spec.user_name)}")
    try:
        run("ROLLBACK PREPARED %s", name)
    finally:
        run("RESET ROLE")
