"""The processes of a front: one loads the code, those that answer are forked from it."""

import os
import re
import signal

from devstack.processes import descendants
from tests.contract.conftest import ServiceMaker
from tests.support.deadlines import wait_until

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
