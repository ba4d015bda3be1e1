"""Who runs the command."""

import getpass
import os

from provisioning.access.management_tokens import Operator


def local_operator() -> Operator:
    """Return who runs a command: the user of the system, by number where it has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return Operator(name, "")
