"""What tests of the whole service need to know of a Docker engine."""

from typing import Any
from urllib.parse import urlencode

from devstack import images
from devstack.docker import DockerEngine


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
