"""Installing Debian packages: when, and what is said when it cannot be."""

import shutil
import subprocess

import pytest

from devstack import packages
from devstack.packages import Software


def software(missing: bool) -> Software:
    return Software("thing", ("thing-server", "thing-client"), lambda: missing)


def test_nothing_is_installed_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_install", lambda names: pytest.fail("installed"))
    assert packages.provide(software(missing=False)) == {}


def test_absence_says_why_and_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_privilege", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    absence = packages.provide(software(missing=True))["thing"]
    assert "needs root or passwordless sudo" in absence.reason
    assert absence.command == "sudo apt-get install thing-server thing-client"


def test_other_systems_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not a Debian" in packages.provide(software(missing=True))["thing"].reason


def test_failed_installation_gives_the_last_line_of_the_installer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "_privilege", list)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "INSTALL_SCRIPT", "echo working; echo E: no network; exit 100")
    assert "E: no network" in packages.provide(software(missing=True))["thing"].reason


def test_install_script_is_a_valid_script_for_plain_sh() -> None:
    subprocess.run(["sh", "-n", "-c", packages.INSTALL_SCRIPT], check=True)
