"""Requests that wait for a job nobody will run, for as long as the service lets them."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tests.support.client import Answer, Client

#: Seconds: far more than the contract's longest wait of 60.
WANTED = 600


class LongWaits:
    """A delete with `Prefer: wait` and a long poll, both started at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(2)

    def __enter__(self) -> "LongWaits":
        waited, polled = (self._client.create(type_) for type_ in ("sandbox", "transformations"))
        job = self._client.delete(
            f"/provisioning/mysql/{polled['id']}", headers={"Prefer": "respond-async"}
        ).body["id"]
        self.delete = self._start(
            "DELETE", f"/provisioning/mysql/{waited['id']}", {"Prefer": f"wait={WANTED}"}
        )
        self.poll = self._start("GET", f"/queue/job/{job}?wait={WANTED}", {})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def _start(self, method: str, path: str, headers: dict[str, str]) -> "Future[Timed]":
        return self._pool.submit(self._time, method, path, headers)

    def _time(self, method: str, path: str, headers: dict[str, str]) -> "Timed":
        start = time.monotonic()
        answer = self._client(method, path, headers=headers)
        return answer, time.monotonic() - start


#: An answer and the seconds it took.
Timed = tuple[Answer, float]
