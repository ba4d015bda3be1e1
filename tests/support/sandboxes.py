"""What tests of the whole service need to know of a Docker engine."""

import ssl
import urllib.request
from base64 import b64encode
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from devstack import images
from devstack.docker import DockerEngine
from tests.support.deadlines import DEADLINE


def docker_url(engine: DockerEngine, **options: Any) -> str:
    """Return the DOCKER_URL of an engine whose sandboxes are stubs."""
    values = {
        "public_host": engine.public_host,
        "jupyter_image": images.STUB.tag,
        "rstudio_image": images.STUB.tag,
        **options,
    }
    return f"{engine.url}?{urlencode(values)}"


def objects_of(engine: DockerEngine, credentials_id: object | None = None) -> list[Any]:
    """Return what the engine has of a credential, or of all: containers, then networks."""
    label = "provisioning.credentials"
    if credentials_id is not None:
        label += f"={credentials_id}"
    client = engine.client()
    containers = client.containers.list(all=True, filters={"label": label})
    return [*containers, *client.networks.list(filters={"label": label})]


def page(credentials: dict[str, Any], path: str = "/", password: str = "") -> int:
    """Return the status of a sandbox's page; it has a certificate that nobody knows."""
    trusting = ssl._create_unverified_context()
    request = urllib.request.Request(
        f"https://{credentials['hostname']}:{credentials['port']}{path}"
    )
    if password:
        login = f"{credentials['user']}:{password}".encode()
        request.add_header("Authorization", f"Basic {b64encode(login).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE, context=trusting) as answer:
            assert b"Jupyter" in answer.read()
            return int(answer.status)
    except HTTPError as problem:
        return problem.code
