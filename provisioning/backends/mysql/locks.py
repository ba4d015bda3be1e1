"""The service's own locks on a server: named locks whose names nobody else can tell.

Any login may take a named lock (`GET_LOCK`), and names hold for the whole server. So a name is
keyed with a secret of the installation, and only sessions of our own login count as holders:
what a tenant holds, by whatever chance, stands in nobody's way.
"""

import hmac
import time
from collections.abc import Callable, Sequence

from pymysql.constants import ER

from provisioning.backends.base import EngineBusy, Spec
from provisioning.backends.mysql.server import LOCK_WAIT, Server, Statements
from provisioning.configuration.secrets import Secret
from provisioning.state.claims import Lease

#: Hex digits of a name; servers take 64 characters.
NAME_LENGTH = 40
#: Seconds between two attempts to take a lock that one of ours still holds.
PAUSE = 0.01


class Locks:
    """Takes the locks of credentials and logins; ``secret`` is the same in all processes."""

    def __init__(self, secret: Callable[[], Secret]) -> None:
        self._secret = secret

    def name(self, what: str) -> str:
        """Return the lock's name for an object or a login of ours."""
        key = self._secret().reveal().encode()
        return hmac.digest(key, what.encode(), "sha256").hex()[:NAME_LENGTH]

    def fence(self, run: Statements, server: Server, held: Sequence[tuple[Spec, Lease]]) -> None:
        """Take the credentials' locks on the server, ending a stale holder's session.

        A process that holds a lock and not the claim was replaced; its connection ends here, so
        it cannot run another statement. A holder that is only now getting here fails
        `lease.check`.
        """
        names = [self.name(spec.object_name) for spec, _ in held]
        (taken,) = run(f"SELECT {', '.join(['GET_LOCK(%s, 0)'] * len(names))}", *names)
        for name, (spec, lease), is_ours in zip(names, held, taken, strict=True):
            if is_ours != 1:
                _take_from_holder(run, server, name, spec.object_name, lease)
            lease.check()

    def fence_login(self, run: Statements, server: Server, spec: Spec, lease: Lease) -> None:
        """Do as `fence` does for the password of a shared login; the lease is the login's."""
        name = self.name(f"password of {spec.user_name}")
        _take_from_holder(run, server, name, f"the password of {spec.user_name}", lease)
        lease.check()

    def lock_login(self, run: Statements, server: Server, spec: Spec) -> None:
        """Keep a shared login from being dropped by one credential while another takes it."""
        name = self.name(f"login {spec.user_name}")
        if run("SELECT GET_LOCK(%s, %s)", name, LOCK_WAIT) == ((1,),):
            return
        if any(is_ours for _, is_ours in _holder(run, server, name)):
            raise EngineBusy(f"server {spec.server}: login {spec.user_name} is locked")

    def unlock_login(self, run: Statements, spec: Spec) -> None:
        """Let the next one take the login, while the rest goes on."""
        run("SELECT RELEASE_LOCK(%s)", self.name(f"login {spec.user_name}"))


def _take_from_holder(run: Statements, server: Server, name: str, what: str, lease: Lease) -> None:
    end = time.monotonic() + LOCK_WAIT
    while run("SELECT GET_LOCK(%s, 0)", name) != ((1,),):
        for session, is_ours in _holder(run, server, name):
            if not is_ours:
                # Not one of us: the lock says nothing then, and the lease has to do.
                return
            lease.check()
            run.ignoring({ER.NO_SUCH_THREAD}, f"KILL CONNECTION {int(session)}")
        if time.monotonic() > end:
            raise EngineBusy(f"server {server.config.name}: {what} is locked")
        time.sleep(PAUSE)


def _holder(run: Statements, server: Server, name: str) -> list[tuple[int, int]]:
    """Return the session that holds a lock, if any, and whether it is of our own login."""
    rows = run(
        f"SELECT id, user = SUBSTRING_INDEX(USER(), '@', 1) FROM {server.processlist} "
        "WHERE id = IS_USED_LOCK(%s)",
        name,
    )
    return [(int(session), int(is_ours)) for session, is_ours in rows]
