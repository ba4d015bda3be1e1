"""The processes of a front: one loads the code, those that answer are forked from it."""

import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from devstack.processes import descendants
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import accepted_job
from tests.support.deadlines import DEADLINE, wait_until

#: The line of Python's record of imports for the application.
LOADED = re.compile(r"^import time:.* api\.app$", re.MULTILINE)


def test_a_dead_process_is_replaced_without_loading_the_code_again(
    make_service: ServiceMaker,
) -> None:
    with make_service({"PYTHONPROFILEIMPORTTIME": "1"}) as service:
        front = service.fronts[0]
        (answering,) = descendants(front.pid)
        os.kill(answering, signal.SIGKILL)
        wait_until(lambda: set(descendants(front.pid)) - {answering}, what="a process in its place")
        client = service.client()
        wait_until(lambda: client.get("/health/ready").status == 200, what="ready again")
        assert len(LOADED.findall(service.logs())) == 1


def test_a_front_that_stops_answers_what_has_begun_and_nothing_new(
    make_service: ServiceMaker,
) -> None:
    with make_service({"DRAIN_SECONDS": "0"}) as service:
        client = service.client()
        path = f"/provisioning/mysql/{client.create()['id']}/kill"
        job = accepted_job(client.post(path, headers={"Prefer": "respond-async"}))
        half = socket.create_connection(("127.0.0.1", client.port), DEADLINE)
        with half, ThreadPoolExecutor(1) as executor:
            half.sendall(b"GET /health/live HTTP/1.1\r\n")
            waiting = executor.submit(client.get, f"/queue/job/{job}?wait=4")
            events = f"/queue/job/{job}?wait=1"
            assert client.get(events).status == 200, "by then the other one waits too"
            os.kill(service.fronts[0].pid, signal.SIGTERM)
            with pytest.raises(OSError):
                while True:
                    socket.create_connection(("127.0.0.1", client.port), DEADLINE).close()
            half.sendall(b"Host: a\r\n\r\n")
            assert half.recv(100).startswith(b"HTTP/1.1 200 OK")
            assert waiting.result().status == 200
            wait_until(lambda: not service.fronts[0].running, what="the end of the front")
