"""How images are made: when, of what, and what is said when it fails."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from devstack import images
from devstack.docker import DockerEngine
from devstack.images import Image
from devstack.processes import StartFailed


def test_images_of_the_same_sources_are_left_as_they_are(engine: DockerEngine) -> None:
    said: list[str] = []
    with closing(engine.client()) as client:
        images.provide(client, *images.ALL, say=said.append)
    assert said == []


def test_images_have_the_label_of_the_contract(engine: DockerEngine) -> None:
    with closing(engine.client()) as client:
        for image in images.ALL:
            assert client.images.get(image.tag).labels["provisioning.contract"] == "1"
    for folder in ("jupyter", "rstudio"):
        assert (
            "LABEL provisioning.contract=1" in (images.SOURCES / folder / "Dockerfile").read_text()
        )


def test_places_belong_to_the_sandboxs_user(engine: DockerEngine) -> None:
    places = ["/data/in/tables", "/data/out/files", "/opt/packages", "/home/sandbox"]
    with closing(engine.client()) as client:
        for image in images.ALL:
            command = ["stat", "-c", "%u:%g", *places]
            owners = client.containers.run(image.tag, command, network="none", remove=True)
            assert owners.decode().split() == ["1000:1000"] * len(places)


def test_sources_are_the_same_whenever_they_were_checked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = images._pack_sources()
    shutil.copytree(images.SOURCES, tmp_path / "images")
    for file in (tmp_path / "images").rglob("*"):
        os.utime(file, (0, 0))
    monkeypatch.setattr(images, "SOURCES", tmp_path / "images")
    assert images._pack_sources() == here
    (tmp_path / "images" / "sandbox-stub" / "server.py").write_text("changed")
    assert images._pack_sources() != here


def test_failed_build_says_why(
    engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copytree(images.SOURCES / "access", tmp_path / "images" / "access")
    (tmp_path / "images" / "broken").mkdir()
    dockerfile = f"FROM {images.BASE}\nRUN echo this is the reason && false\n"
    (tmp_path / "images" / "broken" / "Dockerfile.local").write_text(dockerfile)
    monkeypatch.setattr(images, "SOURCES", tmp_path / "images")
    with closing(engine.client()) as client, pytest.raises(StartFailed, match="is the reason"):
        images.provide(client, Image("broken:1", "broken"))


def test_failed_base_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if images.missing():
        pytest.skip("mmdebstrap is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images, "RELEASE", "no-such-release")
    with pytest.raises(StartFailed, match="no-such-release"):
        images._base_file(lambda line: None)
    assert [file.name for file in images.cache_directory().iterdir()] == ["lock"]
