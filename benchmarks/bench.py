"""What every measure gets: the servers, the running service and the sizes of the run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import raw
from benchmarks.figures import Figure
from benchmarks.service import Service
from devstack.mariadb import MariaDB
from devstack.valkey import Valkey

Measure = Callable[["Bench"], list[Figure]]


@dataclass(frozen=True)
class Sizes:
    """How much each measure does in a round, and how many rounds."""

    rounds: int = 5
    #: Creations one after the other.
    creations: int = 150
    #: Creations by sixteen clients.
    crowd_creations: int = 800
    #: Seconds of each leg of reading.
    reading_seconds: float = 3.0
    #: Rows of the large state, and the longest time spent on making them, in seconds.
    rows: int = 1_000_000
    filling_seconds: float = 60.0
    #: Finished jobs and live credentials of the large state of `rows`.
    jobs_ended: int = 300_000
    credentials: int = 100_000
    removals: int = 25
    #: Credentials that expire at once.
    expired: int = 400
    jobs: int = 40
    #: Sandboxes one after the other, and cycles of each of eight callers.
    sandboxes: int = 12
    sandbox_cycles: int = 4


QUICK = Sizes(
    rounds=2,
    creations=30,
    crowd_creations=160,
    reading_seconds=1.0,
    rows=50_000,
    jobs_ended=20_000,
    credentials=10_000,
    removals=5,
    expired=100,
    jobs=8,
    sandboxes=4,
    sandbox_cycles=2,
)


class Bench:
    """One run: a private MariaDB and broker, and the service on them."""

    def __init__(self, directory: Path, sizes: Sizes, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.sizes = sizes
        self.say = say
        self.mariadb = MariaDB(directory / "mariadb")
        self.valkey = Valkey(directory / "valkey")
        self._services = 0
        #: The service most measures use.
        self.service: Service
        #: A warm connection of the administrator.
        self.admin: Any

    @contextmanager
    def running(self) -> Iterator["Bench"]:
        """Start the servers and the service for a block."""
        with ExitStack() as stack:
            stack.enter_context(self.mariadb)
            stack.enter_context(self.valkey)
            self.admin = raw.connect(self.mariadb)
            stack.callback(self.admin.close)
            self.service = self.new_service(stack)
            self.service.start()
            yield self

    def new_service(self, stack: ExitStack, settings: Mapping[str, str] | None = None) -> Service:
        """Return another service with a state of its own, not started yet."""
        self._services += 1
        service = Service(
            self.directory / f"service-{self._services}",
            self.mariadb,
            self.valkey,
            self._services,
            settings or {},
        )
        stack.callback(service.stop)
        return service
