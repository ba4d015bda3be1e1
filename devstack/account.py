"""Runs a server as somebody who is not root, where we are root."""

import os
import shutil
import subprocess
from pathlib import Path

from devstack.processes import StartFailed, dying_with_parent

PASS_CLOSED_DIRECTORIES = [
    # Without this bit the kernel drops all capabilities when root becomes somebody else.
    "--securebits=+no_setuid_fixup",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]


class Account:
    """The account that a server runs under when we are root; otherwise it is ours.

    Where that account cannot reach the server's directory, because one above it is closed to
    others, the server keeps the one capability that lets it pass.
    """

    def __init__(self, user: int, group: int) -> None:
        self._user = user
        self._group = group

    def wrap(self, command: list[str], directory: Path) -> list[str]:
        """Return the command as the account runs it for the server of a directory."""
        command = dying_with_parent(command)
        if os.geteuid() != 0:
            return command
        passing = [] if self._reaches(directory) else PASS_CLOSED_DIRECTORIES
        return [*self._become(passing), *command]

    def give(self, *files: Path) -> None:
        """Make files and directories belong to the account."""
        if os.geteuid() != 0:
            return
        for file in files:
            if file.stat().st_uid != self._user:
                owner = f"{self._user}:{self._group}"
                subprocess.run(["chown", "-R", owner, str(file)], check=True)

    def _reaches(self, directory: Path) -> bool:
        directory.chmod(0o711)
        return subprocess.run([*self._become([]), "test", "-x", str(directory)]).returncode == 0

    def _become(self, options: list[str]) -> list[str]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise StartFailed("setpriv is not installed")
        account = [f"--reuid={self._user}", f"--regid={self._group}", "--clear-groups"]
        return [setpriv, *account, *options, "--"]
