"""Docker sandboxes of `make run`: an engine, the images, a table to load.

`python -m devstack.sandboxes` makes the images without starting the service.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from devstack import images, packages
from devstack.docker import DockerEngine
from devstack.packages import Absence
from devstack.ports import HOST
from devstack.processes import StartFailed
from devstack.procfile import TREE

USUAL_ENGINE = "unix:///var/run/docker.sock"
#: Sandboxes' pages are at these ports of this machine.
PUBLIC_HOST = "localhost"
PORTS = "20000-20199"
SAMPLE_TABLE = "in.c-main.orders"
SAMPLE_ROWS = 1000
CITIES = ("Brno", "Praha", "Wien", "Berlin", "London")


class Sandboxes:
    """The engine that answers on this machine or, if none does, one of our own."""

    def __init__(self, directory: Path) -> None:
        self.storage = directory / "storage"
        self.own = DockerEngine(directory / "docker", on_host=True)
        #: The engine's address; empty when there are no sandboxes.
        self.url = ""
        #: Why there are none.
        self.problem = ""

    def wanted_software(self) -> list[packages.Software]:
        """What has to be installed for sandboxes on this machine."""
        if _answers(usual_engine()):
            return [packages.MMDEBSTRAP]
        return [packages.DOCKER, packages.MMDEBSTRAP] if os.geteuid() == 0 else []

    def start(self, absences: Mapping[str, Absence]) -> None:
        """Find or start the engine and make the images; `problem` says what did not work."""
        from docker.errors import DockerException

        try:
            self.url = self._start_engine(absences)
            with closing(_client(self.url, timeout=600)) as client:
                images.provide(client, images.JUPYTER, images.RSTUDIO_STAND_IN, say=_say)
        except (StartFailed, DockerException, OSError) as failure:
            self.problem = str(failure).splitlines()[0]
            self.stop()
        else:
            self._make_sample()

    def stop(self) -> None:
        """Stop the engine if it is ours; its containers are kept, stopped."""
        self.url = ""
        self.own.stop()

    @property
    def where(self) -> str:
        """Where the sandboxes' pages are."""
        return f"{PUBLIC_HOST}:{PORTS}"

    @property
    def is_own(self) -> bool:
        """Whether the engine is ours."""
        return self.url == self.own.url

    def settings(self) -> dict[str, str]:
        """What the service has to know."""
        if not self.url:
            return {"DOCKER_URL": ""}
        options = {
            "public_host": PUBLIC_HOST,
            "bind": HOST,
            "ports": PORTS,
            "jupyter_image": images.JUPYTER.tag,
            "rstudio_image": images.RSTUDIO_STAND_IN.tag,
        }
        return {
            "DOCKER_URL": f"{self.url}?{urlencode(options, safe='/:')}",
            "STORAGE_DIRECTORY": str(self.storage),
        }

    def _start_engine(self, absences: Mapping[str, Absence]) -> str:
        """The address of an engine that answers."""
        for name in ("mmdebstrap", "docker"):
            if name in absences:
                absence = absences[name]
                raise StartFailed(f"{absence.reason}; to get it: {absence.command}")
        usual = usual_engine()
        if _answers(usual):
            return usual
        if os.geteuid() != 0:
            raise StartFailed(f"no engine answers at {usual}, and starting one needs root")
        self.own.start()
        return self.own.url

    def _make_sample(self) -> None:
        """Write a table once, so that there is one to ask for."""
        table = self.storage / "tables" / f"{SAMPLE_TABLE}.csv"
        if table.exists():
            return
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            f'"{number}","{CITIES[number % len(CITIES)]}","{number * 37 % 1000}"'
            for number in range(1, SAMPLE_ROWS + 1)
        ]
        table.write_text("\n".join(['"id","city","price"', *rows, ""]))


def usual_engine() -> str:
    """The address that Docker's own programs would use, if it is one of this machine."""
    named = os.environ.get("DOCKER_HOST", "")
    return named if named.startswith("unix://") else USUAL_ENGINE


def _answers(url: str) -> bool:
    import requests
    from docker.errors import DockerException

    try:
        with closing(_client(url, timeout=2)) as client:
            return bool(client.ping())
    except (DockerException, requests.RequestException):
        return False


def _client(url: str, timeout: float) -> Any:
    # Imported where it is needed: it takes a fifth of a second.
    import docker

    return docker.DockerClient(base_url=url, version="auto", timeout=timeout)


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Make the images in the engine that `make run` would use."""
    sandboxes = Sandboxes(TREE / ".provisioning")
    try:
        sandboxes.start(packages.provide(*sandboxes.wanted_software()))
        print(sandboxes.problem or f"The images are in the engine at {sandboxes.url}")
    finally:
        sandboxes.stop()
    return 1 if sandboxes.problem else 0


if __name__ == "__main__":
    sys.exit(main())
