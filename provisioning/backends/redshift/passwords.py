"""Gives a login another password, whatever its sessions hold."""

import time

from provisioning.backends.base import EngineError, Spec
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.blockers import Blockers
from provisioning.backends.redshift.removal import OUT_SECONDS, held_up
from provisioning.backends.redshift.server import Statements
from provisioning.configuration.secrets import Secret
from provisioning.state.failpoints import failpoint


def change_password(
    run: Statements, spec: Spec, password: Secret, limit: str, blockers: Blockers
) -> None:
    """Set the password and the ``limit`` of connections; its end is an extend's alone to move.

    A session of the login that has changed its row, and not committed, is ended. Raises
    ``EngineBusy`` after `OUT_SECONDS`.
    """
    user = quote_sql_name(spec.user_name)
    end = time.monotonic() + OUT_SECONDS
    while True:
        with held_up(run, spec, blockers, end):
            run("BEGIN")
            try:
                # The server logs a statement that fails, so the one with the password comes
                # when the row is ours and nothing can hold it up any more.
                run(f"ALTER USER {user} WITH {limit}")
                run(f"ALTER USER {user} WITH PASSWORD %s", password.reveal())
                run("COMMIT")
            except EngineError:
                run("ROLLBACK")
                raise
            break
    failpoint("password.set")
