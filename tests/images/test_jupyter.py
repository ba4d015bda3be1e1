"""The local Jupyter image: a real Jupyter in a container with a sandbox's limits."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import images
from devstack.docker import DockerEngine
from tests.images.expectations import assert_nothing_secret_is_shown
from tests.images.websocket import WebSocket
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.sandbox import Sandbox, created, running

SCRIPT = "print(6*7)"
SUM = "import csv; print(sum(int(row['price']) for row in csv.DictReader(open(path))))"
FILES = {
    "in/tables/orders.csv": b'"id","price"\n"1","9"\n"2","11"\n',
    "main.py": SCRIPT.encode(),
    "notebook.ipynb": json.dumps(
        {
            "cells": [
                {
                    "cell_type": "code",
                    "source": SCRIPT,
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                }
            ],
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
            "nbformat": 4,
            "nbformat_minor": 4,
        }
    ).encode(),
}


@pytest.fixture(scope="module")
def sandbox(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("jupyter")
    with running(engine, images.JUPYTER, 8888, FILES, directory) as started:
        yield started


def log_in(sandbox: Sandbox, password: str) -> tuple[requests.Session, requests.Response]:
    """Send the login form; the browser that did and the answer."""
    browser = sandbox.browser()
    browser.get(f"{sandbox.url}/login")
    form = {"password": password, "_xsrf": browser.cookies["_xsrf"]}
    answer = browser.post(f"{sandbox.url}/login", data=form, allow_redirects=False)
    return browser, answer


@pytest.fixture(scope="module")
def browser(sandbox: Sandbox) -> requests.Session:
    """A browser that has logged in."""
    browser, answer = log_in(sandbox, sandbox.password)
    assert answer.status_code == 302
    browser.headers["X-XSRFToken"] = browser.cookies["_xsrf"]
    return browser


@pytest.fixture(scope="module")
def kernel(sandbox: Sandbox, browser: requests.Session) -> Iterator[WebSocket]:
    """The channel of a kernel."""
    started = browser.post(f"{sandbox.url}/api/kernels", json={"name": "python3"})
    assert started.status_code == 201, started.text
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)
    url = f"{sandbox.url}/api/kernels/{started.json()['id']}/channels"
    with WebSocket(url, sandbox.tls(), cookies) as channel:
        yield channel


def send_code(kernel: WebSocket, code: str) -> str:
    """Ask the kernel to run the code; the request's id."""
    identity = uuid.uuid4().hex
    header = {
        "msg_id": identity,
        "msg_type": "execute_request",
        "session": identity,
        "username": "",
        "version": "5.3",
        "date": datetime.now(UTC).isoformat(),
    }
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    parts: dict[str, Any] = {"header": header, "content": content, "channel": "shell"}
    kernel.send({**parts, "parent_header": {}, "metadata": {}, "buffers": []})
    return identity


def run_code(kernel: WebSocket, code: str) -> str:
    """Run the code and return what it printed."""
    identity = send_code(kernel, code)
    printed = ""
    while True:
        message = kernel.receive()
        if message["parent_header"].get("msg_id") != identity:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        assert message["msg_type"] != "error", content
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed


def activity(sandbox: Sandbox) -> dict[str, Any]:
    status, output = sandbox.run("sandbox-activity")
    assert status == 0, output
    seen: dict[str, Any] = json.loads(output)
    return seen


def test_first_page_is_jupyters_login_page(sandbox: Sandbox) -> None:
    answer = sandbox.browser().get(sandbox.url)
    assert answer.status_code == 200
    assert "Jupyter" in answer.text
    assert 'type="password"' in answer.text
    assert not re.search("token( auth|:)", answer.text, re.IGNORECASE)


def test_first_page_after_login_is_the_notebook(
    sandbox: Sandbox, browser: requests.Session
) -> None:
    answer = browser.get(sandbox.url)
    assert answer.url == f"{sandbox.url}/notebooks/notebook.ipynb"
    assert "Jupyter" in answer.text


def test_wrong_password_is_refused(sandbox: Sandbox) -> None:
    browser, answer = log_in(sandbox, f"{sandbox.password}x")
    assert answer.status_code == 401
    assert browser.get(f"{sandbox.url}/api/kernels").status_code == 403


def test_kernel_runs_the_first_cell_and_reads_the_table(
    sandbox: Sandbox, browser: requests.Session, kernel: WebSocket
) -> None:
    notebook = browser.get(f"{sandbox.url}/api/contents/notebook.ipynb").json()["content"]
    assert run_code(kernel, notebook["cells"][0]["source"]) == "42\n"
    assert run_code(kernel, f"path = 'in/tables/orders.csv'; {SUM}") == "20\n"
    assert run_code(kernel, "open('out/tables/new.csv', 'w').write('a'); print('written')")


def test_activity_tells_work_from_an_open_page(
    sandbox: Sandbox, browser: requests.Session, kernel: WebSocket
) -> None:
    run_code(kernel, "1")
    before = activity(sandbox)
    assert before["busyKernels"] == 0
    browser.get(f"{sandbox.url}/api/contents").raise_for_status()
    assert activity(sandbox) == before
    run_code(kernel, "import os; os.mkfifo('/tmp/gate')")
    send_code(kernel, "open('/tmp/gate').read()")
    wait_until(lambda: activity(sandbox)["busyKernels"] == 1, what="a busy kernel")
    sandbox.run("sh", "-c", "echo > /tmp/gate")
    wait_until(lambda: activity(sandbox)["busyKernels"] == 0, what="an idle kernel")
    assert activity(sandbox)["lastActivity"] > before["lastActivity"]


def test_package_in_the_image_is_installed_without_a_network(
    sandbox: Sandbox, kernel: WebSocket
) -> None:
    status, output = sandbox.run("install-package", "provisioning-sample")
    assert status == 0, output
    assert run_code(kernel, "import provisioning_sample as p; print(p.GREETING)") == "installed\n"


@pytest.mark.parametrize("name", ["no-such-package-anywhere", "--version"])
def test_package_that_cannot_be_installed_fails(sandbox: Sandbox, name: str) -> None:
    assert sandbox.run("install-package", name)[0] != 0


def test_nothing_secret_is_shown(sandbox: Sandbox, kernel: WebSocket) -> None:
    described = "cat ~/.local/share/jupyter/runtime/nbserver-*.json"
    token = json.loads(sandbox.run("sh", "-c", described)[1])["token"]
    assert_nothing_secret_is_shown(sandbox, token)


def test_without_a_certificate_the_page_is_plain_http(engine: DockerEngine, tmp_path: Path) -> None:
    with running(engine, images.JUPYTER, 8888, {}, tmp_path, https=False) as sandbox:
        answer = sandbox.browser().get(sandbox.url)
        assert "Jupyter" in answer.text
        assert activity(sandbox) == {"busyKernels": 0, "lastActivity": None}


def test_without_a_password_nothing_starts(engine: DockerEngine) -> None:
    with created(engine, images.JUPYTER, 8888) as container:
        container.start()
        assert container.wait(timeout=DEADLINE)["StatusCode"] == 64
        assert b"password-hash is missing" in container.logs()
