"""Clients that repeat what failed, as real ones do, and a ledger of what they were told."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.client import Answer
from tests.support.deadlines import CROWD_DEADLINE, LONG_DEADLINE

#: Seconds before a caller asks the next front after a failure. It grows no further: the
#: tests look at the service's recovery, not at the manners of clients.
PAUSE = 0.2
#: A drop or kill that takes longer is followed through its job.
SHORT_WAIT = {"Prefer": "wait=5"}
LOST = (OSError, HTTPException)


class GaveUp(AssertionError):
    """A request found no good answer in time."""


@dataclass
class Promise:
    """A credential that was acknowledged with 2xx."""

    token: str
    backend: str
    credentials: dict[str, Any]
    #: A delete was sent; without its answer, the client cannot know whether it counts.
    leaving: bool = False
    #: A delete was acknowledged as done.
    deleted: bool = False


class Ledger:
    """What the service has promised to all callers of a test, and what that took."""

    def __init__(self, record: Record | None = None) -> None:
        self._lock = threading.Lock()
        self.promises: dict[str, Promise] = {}
        self.record = record or Record()

    def created(self, token: str, body: dict[str, Any]) -> None:
        """Record an acknowledged credential; an id keeps its password and names for ever."""
        backend = body["url"].partition("/")[0]
        promise = Promise(token, backend, body["credentials"])
        with self._lock:
            known = self.promises.setdefault(body["id"], promise)
            assert known.credentials == body["credentials"], "an id changed its credentials"

    def leaving(self, credentials_id: str) -> None:
        with self._lock:
            self.promises[credentials_id].leaving = True

    def deleted(self, credentials_id: str) -> None:
        with self._lock:
            self.promises[credentials_id].deleted = True

    def waited(self, seconds: float) -> None:
        """Record what a request took."""
        with self._lock:
            self.record.waited(seconds)

    def secrets(self) -> set[str]:
        """Return every password and token that was issued."""
        with self._lock:
            passwords = {promise.credentials["password"] for promise in self.promises.values()}
            return passwords | {promise.token for promise in self.promises.values()}


class Caller:
    """One token's client. It asks another front after a lost connection or a 503."""

    def __init__(
        self,
        service: FaultyService,
        ledger: Ledger,
        *,
        backend: str = "mysql",
        token: str | None = None,
        person: str | None = None,
        front: int = 0,
        patience: float = LONG_DEADLINE,
    ) -> None:
        self.service = service
        self.ledger = ledger
        self.path = f"/provisioning/{backend}"
        self.token = token or service.token(person=person)
        self.patience = patience
        self._front = front
        #: Seconds that the slowest request took, repeats included.
        self.slowest = 0.0

    def create(self, type_: str = "sandbox") -> dict[str, Any]:
        """Create a credential, or get the one that a lost answer was about."""
        answer = self.ask("POST", self.path, {"type": type_})
        if answer.status != 201:
            raise GaveUp(f"create: {answer.status} {answer.text}")
        body: dict[str, Any] = answer.body
        self.ledger.created(self.token, body)
        return body

    def read(self, credentials_id: str) -> Answer:
        return self.ask("GET", f"{self.path}/{credentials_id}")

    def extend(self, credentials_id: str) -> Answer:
        return self.ask("POST", f"{self.path}/{credentials_id}/extend")

    def kill(self, credentials_id: str) -> None:
        """End the sessions and wait for it."""
        path = f"{self.path}/{credentials_id}/kill"
        self._finish(self.ask("POST", path, headers=SHORT_WAIT))

    def drop(self, credentials_id: str) -> None:
        """Drop a credential and wait until the service says that it is gone."""
        self.ledger.leaving(credentials_id)
        answer = self.ask("DELETE", f"{self.path}/{credentials_id}", headers=SHORT_WAIT)
        # After a lost answer the repeat finds nothing: the delete was accepted.
        if answer.status != 404:
            self._finish(answer)
        self.ledger.deleted(credentials_id)

    def drop_later(self, credentials_id: str) -> int | None:
        """Ask for a delete without waiting; return its job, None if the answer was lost."""
        self.ledger.leaving(credentials_id)
        answer = self.ask(
            "DELETE",
            f"{self.path}/{credentials_id}",
            headers={"Prefer": "respond-async"},
        )
        if answer.status == 404:
            return None
        if answer.status != 202:
            raise GaveUp(f"drop: {answer.status} {answer.text}")
        return int(answer.body["id"])

    def wait_for_job(self, job_id: int) -> dict[str, Any]:
        """Return a job's record once it is finished."""
        end = time.monotonic() + self.patience
        while True:
            record = self.ask("GET", f"/queue/job/{job_id}?wait=5").body
            if record["isFinished"]:
                return dict(record)
            if time.monotonic() > end:
                raise GaveUp(f"job {job_id} is {record['status']}")

    def _finish(self, answer: Answer) -> None:
        if answer.status == 202:
            record = self.wait_for_job(answer.body["id"])
            if record["status"] != "success":
                raise GaveUp(f"job: {record}")
        elif answer.status != 200:
            raise GaveUp(f"{answer.status} {answer.text}")

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Send a request until it is answered by something else than an outage.

        Raises ``GaveUp`` at an error that no fault excuses, and when patience ends.
        """
        start = time.monotonic()
        while True:
            answer = self._try(method, path, body, **options)
            waited = time.monotonic() - start
            if isinstance(answer, Answer) and answer.status < 500:
                self.slowest = max(self.slowest, waited)
                self.ledger.waited(waited)
                return answer
            foreseen = isinstance(answer, Exception) or answer.status == 503
            if waited > self.patience or not foreseen:
                raise GaveUp(f"{method} {path}: {answer!r} after {waited:.1f} s")
            self._front += 1
            time.sleep(PAUSE)

    @property
    def front(self) -> int:
        """The front that is asked next."""
        return self._front % len(self.service.fronts)

    def _try(self, method: str, path: str, body: Any, **options: Any) -> Answer | Exception:
        client = self.service.impatient_client(self.token, front=self.front)
        try:
            return client(method, path, body, **options)
        except LOST as problem:
            return problem


class Crowd:
    """Threads that run to their end, with what went wrong in any of them."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self.problems: list[str] = []
        self.finished = 0
        self._lock = threading.Lock()

    def run(self, work: Callable[..., object], *arguments: object) -> None:
        """Start a thread for a piece of work."""
        thread = threading.Thread(target=self._guard, args=(work, *arguments), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _guard(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as problem:
            with self._lock:
                self.problems.append(f"{type(problem).__name__}: {problem}")
        else:
            with self._lock:
                self.finished += 1

    def join(self) -> None:
        """Wait for all; raise ``TimeoutError`` for one that hangs."""
        end = time.monotonic() + CROWD_DEADLINE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(
                    f"a client still waits after {CROWD_DEADLINE:g} s; {self.problems}"
                )

    def assert_no_problems(self) -> None:
        assert not self.problems, "\n".join(self.problems)
