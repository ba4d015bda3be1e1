"""Which server a new credential goes to: the least loaded one that takes new ones."""

import threading
import time

from sqlalchemy import func, select

from provisioning.backends.base import Placement
from provisioning.errors import BackendFull, BackendUnavailable
from provisioning.state.database import Database
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials

#: Seconds a count of live credentials is used, because counting reads all of them.
COUNT_SECONDS = 5.0


class ServerLoads:
    """Live credentials per server of one backend, counted now and then.

    Between two counts each process adds what it placed itself. That is close enough for balance.
    A capacity may be exceeded by what other processes placed in those seconds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, int]] = {}
        self._counted: dict[str, float] = {}

    def choose(self, backend: str, placements: list[Placement], preferred: str | None) -> str:
        """Return a server's name: ``preferred`` if it takes new ones, else the least loaded.

        Raises ``BackendUnavailable`` when there is no server to choose from, and ``BackendFull``
        when none has room.
        """
        if not placements:
            raise BackendUnavailable(backend, "no server takes new credentials of the type")
        if len(placements) == 1 and placements[0].capacity is None:
            return placements[0].server
        loads = self._loads(backend)
        free = [
            place.server
            for place in placements
            if place.capacity is None or loads.get(place.server, 0) < place.capacity
        ]
        if not free:
            full = ", ".join(f"{place.server} ({place.capacity})" for place in placements)
            raise BackendFull(backend, f"full by max_credentials: {full}")
        chosen = preferred if preferred in free else min(free, key=lambda n: loads.get(n, 0))
        with self._lock:
            loads[chosen] = loads.get(chosen, 0) + 1
        return chosen

    def give_back(self, backend: str, server: str) -> None:
        """Count one less: the credential that the server was chosen for is not made.

        Otherwise a caller who is refused again and again would make a server look full.
        """
        with self._lock:
            loads = self._counts.get(backend, {})
            if loads.get(server):
                loads[server] -= 1

    def _loads(self, backend: str) -> dict[str, int]:
        with self._lock:
            if time.monotonic() - self._counted.get(backend, float("-inf")) < COUNT_SECONDS:
                return self._counts[backend]
        query = (
            select(Credentials.server, func.count())
            .where(
                Credentials.backend == backend,
                Credentials.state.in_((CredentialsState.CREATING, CredentialsState.ACTIVE)),
            )
            .group_by(Credentials.server)
        )
        with self._database.read() as session:
            counts = {row[0]: row[1] for row in session.execute(query)}
        with self._lock:
            self._counts[backend] = counts
            self._counted[backend] = time.monotonic()
        return counts
