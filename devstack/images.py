"""Images of sandboxes made of Debian's packages, for machines that reach no registry.

One base, made by mmdebstrap, serves all of them; `images/` holds what comes on top. The base stays
in the user's cache, so another engine is given it instead of making it again. An image that was
made of the same sources is left as it is.
"""

import fcntl
import hashlib
import io
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.docker import DockerEngine, InUse
from devstack.executables import find_program, require_program
from devstack.processes import Process, StartFailed, dying_with_parent
from devstack.procfile import TREE

SOURCES = TREE / "images"
BASE = "provisioning/sandbox-base:local"
RELEASE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "jupyter-notebook",
    "python3",
    "python3-ipykernel",
    "python3-pip",
    "python3-setuptools",
    "python3-wheel",
    "r-base-core",
    "tini",
)
USER = "useradd --uid 1000 --create-home --home-dir /home/sandbox --shell /bin/bash sandbox\n"
UNWANTED = ("man", "doc", "info", "locale")
#: The digest of what an image was made of.
SOURCE_LABEL = "provisioning.sources"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Image:
    """An image that this machine makes, and the folder of `images/` that says how."""

    tag: str
    folder: str


JUPYTER = Image("provisioning/jupyter:local", "jupyter")
RSTUDIO_STAND_IN = Image("provisioning/rstudio-stand-in:local", "rstudio-stand-in")
STUB = Image("provisioning/sandbox-stub:local", "sandbox-stub")
ALL = (JUPYTER, RSTUDIO_STAND_IN, STUB)


def missing() -> bool:
    """Whether this machine lacks the program that makes the base."""
    return find_program("mmdebstrap") is None


def provide(client: Any, *images: Image, say: Say = print) -> None:
    """Make the images that the engine behind `client` lacks, or has of other sources."""
    sources = _pack_sources()
    digest = _digest(_base_digest().encode(), sources)
    lacking = [image for image in images if _made_of(client, image.tag) != digest]
    if lacking and _made_of(client, BASE) != _base_digest():
        file = _base_file(say)
        say(f"Giving the engine {BASE} ...")
        _import_base(client, file)
    for image in lacking:
        say(f"Making {image.tag} ...")
        _build(client, image, sources, digest)


def cache_directory() -> Path:
    """Where bases stay between runs, whoever asked for them."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "provisioning-images"


def start_engine() -> DockerEngine:
    """Start the first engine of the cache that nobody uses; it has images of earlier runs."""
    number = 0
    while True:
        engine = DockerEngine(cache_directory() / f"engine-{number}")
        try:
            engine.start()
        except InUse:
            number += 1
            continue
        except StartFailed:
            # A run that was killed may leave data that no engine starts on.
            engine.stop()
            shutil.rmtree(engine.data)
            engine.start()
        return engine


def _base_digest() -> str:
    return _digest(repr((RELEASE, PACKAGES, UNWANTED, _prepare())).encode())


def _prepare() -> str:
    """What mmdebstrap runs at the end: every base has the sandbox's user and the places."""
    script = USER + (SOURCES / "access" / "make-places.sh").read_text()
    return f'chroot "$1" sh -c {shlex.quote(script)}'


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _made_of(client: Any, tag: str) -> str | None:
    """The digest of the sources of the engine's image; None when it has no such image."""
    import docker

    try:
        labels: dict[str, str] = client.images.get(tag).labels
    except docker.errors.ImageNotFound:
        return None
    return labels.get(SOURCE_LABEL)


def _pack_sources() -> bytes:
    """`images/` as a tar; the same content gives the same tar, in any checkout."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(SOURCES.rglob("*")):
            if "__pycache__" not in file.parts:
                tar.add(file, str(file.relative_to(SOURCES)), recursive=False, filter=_anonymous)
    return buffer.getvalue()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def _base_file(say: Say) -> Path:
    """The base as a tar; made once, by one process at a time."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"base-{_base_digest()}.tar"
    with _locked(cache / "lock"):
        if not file.exists():
            say(f"Making the base of sandbox images in {cache}, about a minute ...")
            for old in cache.glob("base-*.tar"):
                old.unlink()
            with _workshop(cache) as workshop:
                _make_base(workshop / file.name, say)
                (workshop / file.name).rename(file)
    return file


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _workshop(cache: Path) -> Iterator[Path]:
    """An empty directory that is removed at the end; a killed run's is removed first.

    What was mounted in it went with the processes that saw it.
    """
    workshop = cache / "workshop"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _make_base(file: Path, say: Say) -> None:
    command = [
        require_program("mmdebstrap"),
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
    ]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
    command += [f"--customize-hook={_prepare()}", RELEASE, str(file)]
    process = Process("mmdebstrap", file.parent / "mmdebstrap.log")
    try:
        process.start(
            dying_with_parent(_contained(command)),
            environment={**os.environ, "TMPDIR": str(file.parent)},
            output=subprocess.PIPE,
        )
        lines = _follow(process, say)
    finally:
        process.kill()
    if process.returncode != 0:
        raise StartFailed(f"mmdebstrap failed:\n{''.join(lines[-15:])}")


def _follow(process: Process, say: Say) -> list[str]:
    """Say what the process begins with, until it ends; all that it said."""
    lines = []
    with process.output or io.BytesIO() as output:
        for line in map(bytes.decode, output):
            lines.append(line)
            if line.startswith("I: ") and line.endswith("...\n"):
                say(f"  {line[3:].strip()}")
    return lines


def _contained(command: list[str]) -> list[str]:
    """Where root runs it: what it starts and mounts goes with it, however it ends."""
    if os.geteuid() != 0:
        return command
    options = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    return [require_program("unshare"), *options, "--", *command]


def _import_base(client: Any, file: Path) -> None:
    repository, tag = BASE.split(":")
    client.api.import_image_from_file(
        str(file),
        repository=repository,
        tag=tag,
        changes=[f"LABEL {SOURCE_LABEL}={_base_digest()}"],
    )


def _build(client: Any, image: Image, sources: bytes, digest: str) -> None:
    import docker

    try:
        client.images.build(
            fileobj=io.BytesIO(sources),
            custom_context=True,
            dockerfile=f"{image.folder}/Dockerfile.local",
            tag=image.tag,
            labels={SOURCE_LABEL: digest},
            rm=True,
            forcerm=True,
        )
    except docker.errors.BuildError as error:
        output = "".join(entry.get("stream", "") for entry in error.build_log)
        raise StartFailed(f"{image.tag} cannot be made: {error}\n{output[-2000:]}") from error


def main() -> None:
    """Make the base, which takes its time, before somebody waits for it."""
    if DockerEngine.missing() or missing() or os.geteuid() != 0:
        print("No sandbox images here: they need Docker, mmdebstrap and root", file=sys.stderr)
        return
    _base_file(print)


if __name__ == "__main__":
    main()
