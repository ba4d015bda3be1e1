"""Addresses: where things are served and which ones are printed (contract section 1)."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from api.app import create_app
from provisioning.installation import build_installation
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import accepted_job, finished_job, require_error
from tests.contract.raw_http import exchange
from tests.support.client import Client
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}


def kill_path(client: Client) -> str:
    return f"/provisioning/mysql/{client.create()['id']}/kill"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/provisioning/",
        "/provisioning/mysql/",
        "/provisioning//mysql",
        "/provisioning/mysql/1/",
        "/provisioning/mysql/1/2/3",
        "/Provisioning/mysql",
        "/queue",
        "/queue/",
        "/queue/job",
        "/queue/job/",
        "/queue/job/1/",
        "/queue/jobs/1/",
        "/provisioning/async",
        "/provisioning/manage",
        "/health",
        "/health/live/",
        "/favicon.ico",
    ],
)
def test_a_path_that_is_not_exactly_a_route_is_not_found(service: Service, path: str) -> None:
    require_error(service.client().get(path), 404, "route_not_found", "Route not found")


@pytest.mark.parametrize("path", ["/provisioning/mysql/", "/provisioning/mysql/1/extend/"])
def test_a_trailing_slash_is_no_route_on_post_either(client: Client, path: str) -> None:
    require_error(client.post(path), 404, "route_not_found", "Route not found")


def test_a_job_is_served_at_both_addresses(client: Client) -> None:
    job = accepted_job(client.post(kill_path(client), headers=ASYNC))
    finished_job(client, job)
    first, second = client.get(f"/queue/job/{job}"), client.get(f"/queue/jobs/{job}")
    assert first.status == second.status == 200
    assert first.body == second.body


def test_a_jobs_url_is_absolute_and_made_from_the_request(client: Client) -> None:
    path = kill_path(client)
    answer = client.post(path, headers={**ASYNC, "Host": "api.example.com:8443"})
    job = accepted_job(answer)
    assert answer.body["url"] == f"http://api.example.com:8443/queue/job/{job}"
    answer = client.post(path, headers=ASYNC)
    assert answer.body["url"].startswith(f"http://127.0.0.1:{client.port}/queue/job/")
    assert client.get(f"/queue/jobs/{job}").body["url"] == (
        f"http://127.0.0.1:{client.port}/queue/job/{job}"
    )


def test_a_printed_job_url_can_be_polled_as_it_is(client: Client) -> None:
    answer = client.post(kill_path(client), headers=ASYNC)
    path = answer.body["url"].removeprefix(f"http://127.0.0.1:{client.port}")
    assert client.get(path).body["id"] == answer.body["id"]


def test_an_http_1_0_request_without_a_host_still_gets_a_jobs_url(client: Client) -> None:
    path = kill_path(client)
    head = f"POST {path} HTTP/1.0\r\nX-StorageApi-Token: {client.token}\r\n"
    answer = exchange(client.port, f"{head}Prefer: respond-async\r\n\r\n".encode())
    assert answer.status == 202


@pytest.fixture(scope="module")
def published(make_service: ServiceMaker) -> Iterator[Service]:
    with make_service({"PUBLIC_URL": "https://api.example.com/base/"}) as service:
        yield service


def test_the_public_url_comes_before_what_the_request_says(published: Service) -> None:
    client = published.client()
    answer = client.post(kill_path(client), headers=ASYNC)
    job = accepted_job(answer)
    assert answer.body["url"] == f"https://api.example.com/base/queue/job/{job}"
    for path in (f"/queue/job/{job}", f"/queue/jobs/{job}"):
        record = client.get(path, headers={"Host": "elsewhere.example.com"}).body
        assert record["url"] == f"https://api.example.com/base/queue/job/{job}"


def test_a_credentials_url_stays_short_under_a_public_url(published: Service) -> None:
    body = published.client().create()
    assert body["url"] == f"mysql/{body['id']}"


@pytest.fixture(scope="module")
def mounted(published: Service) -> Iterator[Client]:
    """The application of a service below a prefix, in a server of its own."""
    installation = build_installation(replace(published.installation.config, public_url=""))
    app = DispatcherMiddleware(NotFound(), {"/base/v1": create_app(installation)})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Client(server.port, published.token(project=new_project()))
    server.shutdown()
    thread.join()
    installation.database.dispose()


def test_a_mount_prefix_is_part_of_a_jobs_url(mounted: Client) -> None:
    created = mounted.post("/base/v1/provisioning/mysql", {"type": "sandbox"})
    assert created.status == 201
    assert created.body["url"] == f"mysql/{created.body['id']}"
    path = f"/base/v1/provisioning/mysql/{created.body['id']}/kill"
    answer = mounted.post(path, headers=ASYNC)
    job = accepted_job(answer)
    address = f"http://127.0.0.1:{mounted.port}/base/v1/queue/job/{job}"
    assert answer.body["url"] == address
    assert mounted.get(f"/base/v1/queue/job/{job}").body["url"] == address
    require_error(mounted.get("/base/v1/"), 404, "route_not_found", "Route not found")


@pytest.mark.parametrize(
    "proxies,scheme", [("", "https"), ("127.0.0.0/8", "https"), ("10.9.8.7, 10.1.0.0/16", "http")]
)
def test_the_scheme_is_taken_from_trusted_proxies_alone(
    make_service: ServiceMaker, proxies: str, scheme: str
) -> None:
    with make_service({"TRUSTED_PROXIES": proxies}) as service:
        client = service.client()
        headers = {**ASYNC, "X-Forwarded-Proto": "https", "Host": "api.example.com"}
        answer = client.post(kill_path(client), headers=headers)
        assert answer.body["url"].startswith(f"{scheme}://api.example.com/queue/job/")
