"""`python -m devstack.busy -- COMMAND`: a command beside as many busy processes as there are cores.

What passes here passes on a machine that is half as fast.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devstack.processes import dying_with_parent

#: Seconds after which a busy process ends by itself, whatever has become of its parent.
LONGEST = 3 * 3600
SPIN = """
import sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pass
"""


@contextmanager
def busy_processes(number: int) -> Iterator[list[int]]:
    """Keep that many cores busy for a block; yield the ids of the processes."""
    command = dying_with_parent([sys.executable, "-S", "-c", SPIN, str(LONGEST)])
    busy: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(number):
            busy.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        yield [process.pid for process in busy]
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m devstack.busy", description=__doc__)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    command = parser.parse_args(arguments).command
    with busy_processes(len(os.sched_getaffinity(0))):
        status = subprocess.call(command)
    # A shell's way to say that a signal ended it.
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
