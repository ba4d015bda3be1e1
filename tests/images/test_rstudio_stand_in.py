"""The local image with R: a real R behind a stand-in for RStudio Server's login."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devstack import images
from devstack.docker import DockerEngine
from tests.images.expectations import assert_nothing_secret_is_shown
from tests.support.sandbox import USER, Sandbox, running

READ_TABLE = "cat(sum(read.csv('/data/in/tables/orders.csv')$price))"
FILES = {"in/tables/orders.csv": b'"id","price"\n"1","9"\n"2","11"\n', "main.R": b"6*7\n"}
IDLE = {"busyKernels": 0, "lastActivity": None}


@pytest.fixture(scope="module")
def sandbox(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("rstudio")
    with running(engine, images.RSTUDIO_STAND_IN, 8787, FILES, directory) as started:
        yield started


def send(browser: requests.Session, url: str, page: str, **fields: str) -> requests.Response:
    """Send a form with the token that the page has."""
    found = re.search(r'name="csrf-token" value="([^"]+)"', page)
    assert found
    return browser.post(url, data={"csrf-token": found[1], **fields})


def sign_in(
    sandbox: Sandbox, user: str, password: str
) -> tuple[requests.Session, requests.Response]:
    browser = sandbox.browser()
    page = browser.get(sandbox.url).text
    url = f"{sandbox.url}/auth-do-sign-in"
    return browser, send(browser, url, page, username=user, password=password)


def test_first_page_is_a_sign_in_form_that_says_what_it_is(sandbox: Sandbox) -> None:
    answer = sandbox.browser().get(sandbox.url)
    assert answer.url == f"{sandbox.url}/auth-sign-in"
    assert "stand-in for RStudio Server, not RStudio Server" in answer.text


def test_owner_signs_in_sees_the_files_and_runs_the_script(sandbox: Sandbox) -> None:
    browser, page = sign_in(sandbox, USER, sandbox.password)
    assert page.ok
    assert "/data/in/tables/orders.csv" in page.text
    assert "6*7" in page.text
    answer = send(browser, f"{sandbox.url}/run", page.text, code="6*7")
    assert "[1] 42" in answer.text


@pytest.mark.parametrize(("user", "end"), [(USER, "x"), ("jupy_70_5", "")])
def test_others_are_refused(sandbox: Sandbox, user: str, end: str) -> None:
    browser, answer = sign_in(sandbox, user, sandbox.password + end)
    assert answer.status_code == 401
    assert browser.get(sandbox.url).url == f"{sandbox.url}/auth-sign-in"


def test_form_without_its_token_is_refused(sandbox: Sandbox) -> None:
    browser = sandbox.browser()
    browser.get(sandbox.url)
    form = {"username": USER, "password": sandbox.password}
    assert browser.post(f"{sandbox.url}/auth-do-sign-in", data=form).status_code == 403


def test_r_reads_the_table(sandbox: Sandbox) -> None:
    assert sandbox.run("Rscript", "-e", READ_TABLE) == (0, "20")


def test_package_in_the_image_is_installed_without_a_network(sandbox: Sandbox) -> None:
    status, output = sandbox.run("install-package", "provisioningsample")
    assert status == 0, output
    assert sandbox.run("Rscript", "-e", "cat(provisioningsample::greeting())") == (0, "installed")


def test_package_that_cannot_be_installed_fails(sandbox: Sandbox) -> None:
    assert sandbox.run("install-package", "nosuchpackageanywhere")[0] != 0


def test_activity_is_of_runs(engine: DockerEngine, tmp_path: Path) -> None:
    with running(engine, images.RSTUDIO_STAND_IN, 8787, FILES, tmp_path, https=False) as sandbox:
        browser, page = sign_in(sandbox, USER, sandbox.password)
        assert json.loads(sandbox.run("sandbox-activity")[1]) == IDLE
        look = "cat(readLines('/tmp/sandbox-activity.json', warn = FALSE))"
        answer = send(browser, f"{sandbox.url}/run", page.text, code=look)
        assert "&quot;busyKernels&quot;: 1" in answer.text
        after = json.loads(sandbox.run("sandbox-activity")[1])
        assert after["busyKernels"] == 0
        assert after["lastActivity"]


def test_nothing_secret_is_shown(sandbox: Sandbox) -> None:
    sign_in(sandbox, USER, sandbox.password)
    assert_nothing_secret_is_shown(sandbox)
