"""Sweeps without a pause in processes of their own: what the beats do, as fast as it goes.

`python -m tests.faults.sweeping` sweeps the service that the environment names, and removes what
has expired, until its standard input ends, and prints how often it did.
"""

import select as descriptors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import select, update

from devstack.procfile import service_environment
from provisioning.backends.base import Backend, ServerObject, Spec
from provisioning.background.expiry import drain
from provisioning.background.sweep import FIRST_BATCH, sweep
from provisioning.configuration import config
from provisioning.configuration.logs import configure_logs
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation, build_installation
from provisioning.state import failpoints
from provisioning.state.claims import Lease
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials
from tests.support.deadlines import DEADLINE
from tests.support.service import TREE

Sweep = Callable[[Installation], object]
#: Seconds between two sweeps: less than any credential's last moments last.
PAUSE = 0.003
CARELESS = "careless"


class Standing:
    """Stands in for an engine: its objects are always there, and go without a trace."""

    ends_passwords = False

    def servers(self) -> list[str]:
        return ["default"]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return []

    def exists(self, spec: Spec) -> bool:
        return True

    def prolong(self, spec: Spec) -> None:
        return None

    def drop(self, spec: Spec, lease: Lease, access_ended: object = None) -> None:
        """There is nothing to remove."""

    def close(self) -> None:
        """There is nothing to close."""


def stand_in(installation: Installation) -> None:
    """Give an installation without servers one that has nothing on it."""
    installation.backends["mysql"] = cast(Backend, Standing())


def sweep_and_remove(installation: Installation) -> None:
    """Sweep, and remove a batch of what has expired on each server, as workers do."""
    for backend, server in sweep(installation).expired:
        drain(installation, backend, server, FIRST_BATCH)


def sweep_carelessly(installation: Installation) -> None:
    """Sweep without the protection: what was found to be expired stays so, whatever happens."""
    query = select(Credentials.id).where(
        Credentials.state == CredentialsState.ACTIVE, Credentials.expires_at <= now_ms()
    )
    with installation.database.read() as session:
        found = session.scalars(query).all()
    if found:
        failpoint("sweep.found")
        with installation.database.write() as session:
            session.execute(
                update(Credentials)
                .where(Credentials.id.in_(found))
                .values(state=CredentialsState.DROPPING, slot=None)
            )


def sweep_once(installation: Installation, sweep: Sweep) -> bool:
    """Sweep, and return whether the state database let it happen: the next one catches up."""
    try:
        sweep(installation)
    except StateUnavailable:
        return False
    return True


class Sweepers:
    """Threads and processes that sweep one service, and how often they did."""

    def __init__(self) -> None:
        self.sweeps = 0
        self.problems: list[str] = []
        self.processes: list[subprocess.Popen[str]] = []
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start_thread(self, installation: Installation, sweep: Sweep) -> None:
        thread = threading.Thread(target=self._run, args=(installation, sweep), daemon=True)
        thread.start()
        self._threads.append(thread)

    def start_process(self, environment: dict[str, str], sweep: Sweep) -> None:
        arguments = [CARELESS] if sweep is sweep_carelessly else []
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.sweeping", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=TREE,
                env=service_environment(environment),
            )
        )

    def wait_started(self) -> None:
        """Wait until every process has swept once."""
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "sweeping\n"

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=DEADLINE)
        for process in self.processes:
            printed, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0
            self.sweeps += int(printed)

    def _run(self, installation: Installation, sweep: Sweep) -> None:
        try:
            while not self._stopped.wait(PAUSE):
                self.sweeps += sweep_once(installation, sweep)
        except Exception as problem:
            self.problems.append(repr(problem))
            raise


@contextmanager
def sweeping(
    installation: Installation,
    environment: dict[str, str],
    *,
    threads: int = 0,
    processes: int = 0,
    sweep: Sweep = sweep_and_remove,
) -> Iterator[Sweepers]:
    """Sweep all the time in so many threads and processes for a block."""
    sweepers = Sweepers()
    try:
        for _ in range(processes):
            sweepers.start_process(environment, sweep)
        sweepers.wait_started()
        for _ in range(threads):
            sweepers.start_thread(installation, sweep)
        yield sweepers
    finally:
        sweepers.stop()
    assert not sweepers.problems, sweepers.problems


def main() -> None:
    """Sweep until nobody holds the other end of the standard input any more."""
    settings = config.load()
    failpoints.watch(settings.provisioning_failpoints)
    installation = build_installation(settings)
    configure_logs("console", "info")
    if not installation.config.servers["mysql"]:
        stand_in(installation)
    sweep: Sweep = sweep_carelessly if CARELESS in sys.argv[1:] else sweep_and_remove
    sweeps = int(sweep_once(installation, sweep))
    print("sweeping", flush=True)
    while not descriptors.select([sys.stdin], [], [], PAUSE)[0]:
        sweeps += sweep_once(installation, sweep)
    print(sweeps)
    installation.close()


if __name__ == "__main__":
    main()
