"""Debian packages of the servers, installed when they are missing and we may.

`python -m devstack.packages mariadb postgres` does it from the command line.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from devstack import images
from devstack.docker import DockerEngine
from devstack.executables import find_program
from devstack.mariadb import MariaDB
from devstack.postgres import Postgres
from devstack.rabbitmq import RabbitMQ

# Services that come with a package must not start on a machine that only needs the programs:
# policy-rc.d is how Debian asks whether it may start them. An existing policy is left alone.
INSTALL_SCRIPT = """
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update -q
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
for package in "$@"; do
    case $package in
        postgresql) units=postgresql ;;
        docker.io) units="docker.service docker.socket containerd.service" ;;
        rabbitmq-server) units="rabbitmq-server epmd.service epmd.socket" ;;
        nginx | haproxy) units=$package ;;
        *) continue ;;
    esac
    ! command -v systemctl > /dev/null || systemctl disable --quiet $units 2> /dev/null || true
done
"""


@dataclass(frozen=True)
class Software:
    """A server program, how to see that it is missing, and the Debian packages that bring it."""

    name: str
    packages: tuple[str, ...]
    missing: Callable[[], bool]


@dataclass(frozen=True)
class Absence:
    """Why some software is not there, and the line to type to get it."""

    reason: str
    command: str


# The core packages are the bare programs: no service, no system account, nothing to configure.
MARIADB = Software("mariadb", ("mariadb-server-core", "mariadb-client-core"), MariaDB.missing)
POSTGRES = Software("postgres", ("postgresql",), Postgres.missing)
DOCKER = Software("docker", ("docker.io", "iptables", "iproute2"), DockerEngine.missing)
# Ubuntu does not bring the keys that the base's packages are signed with.
MMDEBSTRAP = Software("mmdebstrap", ("mmdebstrap", "debian-archive-keyring"), images.missing)
NGINX = Software("nginx", ("nginx",), lambda: find_program("nginx") is None)
HAPROXY = Software("haproxy", ("haproxy",), lambda: find_program("haproxy") is None)
RABBITMQ = Software("rabbitmq", ("rabbitmq-server",), RabbitMQ.missing)
KNOWN = {
    software.name: software
    for software in (MARIADB, POSTGRES, DOCKER, MMDEBSTRAP, RABBITMQ, NGINX, HAPROXY)
}


def provide(*wanted: Software) -> dict[str, Absence]:
    """Install what is missing in one go; what is missing even so is in the answer, by name."""
    lacking = [software for software in wanted if software.missing()]
    if not lacking:
        return {}
    packages = [package for software in lacking for package in software.packages]
    reason = _install(packages)
    return {
        software.name: Absence(
            reason=reason or "the packages installed, but the programs are not there",
            command=f"sudo apt-get install {' '.join(software.packages)}",
        )
        for software in lacking
        if software.missing()
    }


def _install(packages: list[str]) -> str | None:
    """Install the packages; the answer says why that did not work."""
    if shutil.which("apt-get") is None:
        return "not installed, and this is not a Debian or Ubuntu machine"
    privilege = _privilege()
    if privilege is None:
        return "not installed, and installing needs root or passwordless sudo"
    print(f"Installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*privilege, "sh", "-c", INSTALL_SCRIPT, "sh", *packages],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == 0:
        return None
    last = (done.stdout.strip().splitlines() or ["no message"])[-1]
    return f"not installed; apt-get failed: {last}"


def _privilege() -> list[str] | None:
    """What to put before a command that needs root; None when we may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    return ["sudo", "-n"] if allowed else None


def main() -> None:
    """Install what the arguments name and say what could not be installed."""
    for name, absence in provide(*(KNOWN[name] for name in sys.argv[1:])).items():
        print(f"{name}: {absence.reason}. To get it: {absence.command}", file=sys.stderr)


if __name__ == "__main__":
    main()
