"""The operators' command that sweeps, for cron instead of the beat."""

import json
import subprocess
import sys

import click

from provisioning.background.retention import forget_old
from provisioning.background.sweep import sweep as sweep_once
from provisioning.configuration import config as configuration
from provisioning.configuration.queues import SWEEPS
from provisioning.installation import build_installation

#: Seconds for the start of Celery's command, which takes long on a busy machine. A broker that
#: is away is found out by itself within the time-outs of `celeryconfig`.
SEND_SECONDS = 120
#: Messages that nobody took for so many seconds are void: cron sends others.
EXPIRE_SECONDS = 600


@click.command()
def sweep() -> None:
    """Sweep once: have workers remove what has expired, and do what is due.

    Prints what there was. Run it by cron where no beat runs.
    """
    installation = build_installation(configuration.load())
    due = sweep_once(installation)
    click.echo(json.dumps({**due.counts(), "forgotten": forget_old(installation)}))
    if not wake_workers():
        raise click.ClickException("the broker does not answer: no worker was told")


def wake_workers() -> bool:
    """Have a worker sweep too, which sends a message for all that is due.

    Celery's own command asks it: the domain does not know Celery.
    """
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "call", "sweep"]
    command += ["--queue", SWEEPS, "--expires", str(EXPIRE_SECONDS)]
    try:
        subprocess.run(command, capture_output=True, timeout=SEND_SECONDS, check=True)
    except subprocess.SubprocessError:
        return False
    return True
