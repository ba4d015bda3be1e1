"""Which password an admin login has: it may be rotated while the service runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from provisioning.configuration.secrets import Secret

#: Returns the passwords that the state has for a server's admin login, the most likely first.
RecordedPasswords = Callable[[str], Sequence[Secret]]
Connection = TypeVar("Connection")


def nothing_recorded(server: str) -> Sequence[Secret]:
    """Return the passwords of a server that was never rotated: none."""
    return ()


class AdminPassword:
    """The password of the admin login at one server: the recorded one wins over the configured.

    The one that worked last is used until the server refuses it. Then the state is read again. A
    rotation records the new password there before it changes the server, so one of the recorded
    passwords is in force even during a rotation.
    """

    def __init__(self, configured: Secret, recorded: Callable[[], Sequence[Secret]]) -> None:
        self._configured = configured
        self._recorded = recorded
        self._last: Secret | None = None

    def log_in(
        self,
        connect: Callable[[Secret], Connection],
        driver_error: type[Exception],
        patience: float,
    ) -> Connection:
        """Connect with the password in force; raise the driver's error when none works.

        Only an error within ``patience`` seconds counts as a refusal. Not every driver can tell
        a refusal from an outage, but a slow server is not asked again.
        """
        failure: Exception | None = None
        for secret in self._candidates():
            start = time.monotonic()
            try:
                connection = connect(secret)
            except driver_error as problem:
                failure = failure or problem
                if time.monotonic() - start > patience:
                    raise
            else:
                self._last = secret
                return connection
        assert failure is not None
        raise failure

    def _candidates(self) -> Iterator[Secret]:
        tried = self._last
        if tried is not None:
            yield tried
        for secret in dict.fromkeys((*self._recorded(), self._configured)):
            if secret != tried:
                yield secret
