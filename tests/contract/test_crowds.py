"""Very many requests of one token: they end well, and keep nobody else waiting."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import SHUT_RDWR

from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import accepted_job
from tests.contract.test_slow_callers import CROWD, slow_callers, slowest
from tests.contract.test_workspaces import DATABASE
from tests.support.client import Answer, Client
from tests.support.deadlines import DEADLINE, LONG_DEADLINE, bar, wait_until
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}
#: Requests at the same moment.
MANY = 100
SANDBOX = {"type": "sandbox"}


def ask_like_legacy_clients(request: Callable[[], Answer]) -> list[int]:
    """Return the status of all answers: 503 is repeated when its header says so."""
    statuses = []
    end = time.monotonic() + LONG_DEADLINE
    while time.monotonic() < end:
        answer = request()
        statuses.append(answer.status)
        if answer.status != 503:
            break
        time.sleep(int(answer.headers["Retry-After"]))
    return statuses


def ask_at_once(request: Callable[[], Answer]) -> list[list[int]]:
    """Return the status of all answers to each of many callers."""
    with ThreadPoolExecutor(MANY) as executor:
        return list(executor.map(lambda _: ask_like_legacy_clients(request), range(MANY)))


def test_kills_and_deletes_at_once_are_200(service: Service, client: Client) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}"
    kills = ask_at_once(lambda: client.post(f"{path}/kill"))
    assert Counter(map(tuple, kills)) == {(200,): MANY}
    deletes = Counter(map(tuple, ask_at_once(lambda: client.delete(path))))
    # Who sends its request after the end finds nothing.
    assert deletes[200,] > 0 and deletes[200,] + deletes[404,] == MANY
    assert len(client.get("/queue/jobs?q=command:delete").body) == 1


def test_kills_and_deletes_end_well_when_the_worker_pauses(make_service: ServiceMaker) -> None:
    with make_service(
        {"DELETE_WAIT_SECONDS": "2", "RETRY_AFTER_SECONDS": "1"}, workers=1, beats=1
    ) as service:
        client = service.client()
        path = f"/provisioning/mysql/{client.create()['id']}"
        require_good_end(service, lambda: client.post(f"{path}/kill"))
        require_good_end(service, lambda: client.delete(path))
        assert client.delete(path).status == 404


def require_good_end(service: Service, request: Callable[[], Answer]) -> None:
    """Pause the worker until every caller was sent away once."""
    noted: list[str] = []

    def note() -> Answer:
        answer = request()
        noted.append(answer.body.get("reason"))
        return answer

    service.workers[0].pause()
    with ThreadPoolExecutor(1) as executor:
        ending = executor.submit(ask_at_once, note)
        wait_until(lambda: len(noted) >= MANY, what="an answer for everybody")
        service.workers[0].resume()
        answers = ending.result()
    assert set(noted) == {"job_in_progress", None}
    assert {status for statuses in answers for status in statuses} == {200, 503}
    assert {statuses[-1] for statuses in answers} == {200}


@contextmanager
def hostile_creates(client: Client, token: Callable[[], str]) -> Iterator[Counter[int]]:
    """Send creates, very many at once and without a pause; yield what is answered."""
    answered: Counter[int] = Counter()
    stopped = threading.Event()
    opened: set[HTTPConnection] = set()

    def go_on() -> None:
        while not stopped.is_set():
            connection = HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
            opened.add(connection)
            try:
                headers = {"X-StorageApi-Token": token()}
                connection.request("POST", "/provisioning/mysql", b'{"type":"sandbox"}', headers)
                answer = connection.getresponse()
                answer.read()
                answered[answer.status] += 1
            except (OSError, HTTPException):
                answered[0] += 1
            finally:
                opened.discard(connection)
                connection.close()

    threads = [threading.Thread(target=go_on) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        stopped.set()
        for connection in list(opened):
            if connection.sock is not None:
                connection.sock.shutdown(SHUT_RDWR)
        for thread in threads:
            thread.join()


def test_creates_on_a_stuck_slot_keep_nobody_else_waiting(make_service: ServiceMaker) -> None:
    """No worker: the creates wait for a delete that does not begin."""
    with make_service({"CREATION_LIMIT_SECONDS": "20"}) as service:
        hostile, anonymous = service.client(), service.anonymous()
        path = f"/provisioning/mysql/{hostile.create()['id']}"
        accepted_job(hostile.delete(path, headers=ASYNC))
        others = iter([service.client() for _ in range(20)])
        with (
            hostile_creates(hostile, lambda: hostile.token or "") as answered,
            slow_callers(hostile.port, CROWD),
        ):
            wait_until(lambda: answered[503], what="no more places for the token")
            assert slowest(lambda: anonymous.get("/health/live"), 200, 100) < bar(0.5)
            create = lambda: next(others).post("/provisioning/mysql", SANDBOX)  # noqa: E731
            assert slowest(create, 201, 20) < bar(0.5)
        assert set(answered) <= {503, 0}


def test_tokens_that_are_made_up_keep_nobody_waiting(make_service: ServiceMaker) -> None:
    """Each is another one, but none was ever good: together they are one caller."""
    with make_service({}) as service:
        known, anonymous = service.client(), service.anonymous()
        known.create()
        with hostile_creates(anonymous, lambda: secrets.token_hex(8)) as answered:
            wait_until(lambda: answered[401] > CROWD, what="all of them at work")
            assert slowest(lambda: anonymous.get("/health/live"), 200, 100) < bar(0.5)
            assert slowest(lambda: known.post("/provisioning/mysql", SANDBOX), 201, 20) < bar(0.5)
        assert set(answered) <= {401, 503, 0}


def test_creates_on_a_hung_server_keep_nobody_else_waiting(
    make_service: ServiceMaker, postgres: Postgres, tmp_path: Path
) -> None:
    """Creates of another token go to a server that answers."""
    postgres.ensure_database(DATABASE)
    login = postgres.database_url(DATABASE).partition("://")[2]
    hung = MariaDB(tmp_path / "hung-mariadb")
    hung.start()
    try:
        with make_service({"POSTGRESQL_URL": f"postgresql://{login}"}, on=hung) as service:
            hostile, anonymous = service.client(), service.anonymous()
            others = iter([service.client() for _ in range(20)])

            def create() -> Answer:
                return next(others).post("/provisioning/postgresql", SANDBOX)

            assert create().status == 201
            hung.pause()
            with hostile_creates(hostile, lambda: hostile.token or "") as answered:
                wait_until(lambda: answered[503], what="the server is missed")
                assert slowest(lambda: anonymous.get("/health/live"), 200, 100) < bar(0.5)
                assert slowest(create, 201, 15) < bar(0.5)
                hung.resume()
            assert set(answered) <= {201, 503, 0}
    finally:
        hung.resume()
        hung.stop()
