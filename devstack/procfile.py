"""The service's own processes, as the Procfile names them."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from devstack.processes import Process, dying_with_parent

TREE = Path(__file__).resolve().parent.parent
COLOURS = {"web": "36", "worker": "33", "docker": "35", "beat": "32"}


def procfile_commands(tree: Path = TREE) -> dict[str, str]:
    """The Procfile's shell commands by process name."""
    return dict(parse_procfile((tree / "Procfile").read_text()).processes)


def service_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment with `settings` over it and our interpreter's programs first on PATH."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        # Celery advises against running as root; for private servers on loopback that is fine.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser:Warning",
        **settings,
    }


class ServiceProcess(Process):
    """One line of the Procfile; its output goes to a log and, prefixed, to a printer."""

    def __init__(
        self, name: str, command: str, log: Path, *, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, log)
        self.command = command
        self.environment = environment

    def run(self, printer: Printer, *, directory: Path = TREE) -> None:
        """Start the process, or start it again, and copy its output until it ends.

        A shell expands the variables of the line and then becomes the command, so signals reach
        the command itself. The death signal is SIGTERM: these processes have children of their
        own, which they end themselves when asked, and which SIGKILL would leave behind.
        """
        shell = ["sh", "-c", f"exec {self.command}"]
        self.start(
            dying_with_parent(shell, death_signal="TERM"),
            environment=self.environment,
            directory=directory,
            output=subprocess.PIPE,
        )
        copier = threading.Thread(target=self._copy_output, args=(printer,), daemon=True)
        copier.start()

    def _copy_output(self, printer: Printer) -> None:
        stream = self.output
        if stream is None:
            return
        with stream, self.log.open("ab", buffering=0) as log:
            for line in stream:
                log.write(line)
                if line.strip():
                    printer.write(
                        Message("line", line, datetime.now(), self.name, COLOURS.get(self.name))
                    )
