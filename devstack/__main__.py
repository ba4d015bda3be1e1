"""`make run`: the service with private servers in the foreground, until Ctrl-C.

A process of the service that ends is started again; one that keeps ending stops everything with a
message, because a process in an endless circle of restarts would hide what is wrong.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from devstack.ports import HOST
from devstack.processes import StartFailed
from devstack.procfile import TREE
from devstack.stack import Stack

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TABLE_WIDTH_IN_FILES = 140


class Interrupted(BaseException):
    """Somebody wants us to stop; not an Exception, so that no `except Exception` swallows it."""


def main() -> int:
    """Start everything, say how to use it, stop everything."""
    arguments = _parse_arguments()
    os.umask(0o077)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        port = int(os.environ.get("PORT") or 8000)
    except ValueError:
        print(f"PORT is not a number: {os.environ['PORT']}", file=sys.stderr)
        return 2
    stack = Stack(arguments.directory, port=port, host=os.environ.get("HOST") or HOST)
    try:
        print("Starting ...", flush=True)
        stack.start()
        _print_welcome(stack)
        stack.watch()
    except Interrupted:
        print("\nStopping ...", flush=True)
        return 0
    except StartFailed as failure:
        print(f"\n{failure}", file=sys.stderr, flush=True)
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    parser.add_argument(
        "--directory",
        type=Path,
        default=TREE / ".provisioning",
        help="where data and keys stay (default: .provisioning in the tree)",
    )
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Interrupt whatever goes on, once; repeated signals must not break the stopping."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted


def _print_welcome(stack: Stack) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH_IN_FILES)
    table = Table("part", "on", "where", "note")
    for part in stack.parts():
        table.add_row(part.name, "[green]on" if part.on else "[red]off", part.where, part.note)
    console.print(table)
    # Printed plainly: these lines are copied, and must not be wrapped or coloured.
    print(f"\nToken of project 70, person 4: {stack.token}\n")
    lines = _first_session(stack.url, stack.token) if stack.mysql_is_on else []
    if stack.docker_is_on:
        lines += _first_notebook(stack.url, stack.token)
    if stack.directory == TREE / ".provisioning":
        lines.append(
            "Operate it from another terminal, with a second token to begin with:\n"
            "make shell\nprovisioning tokens create --project 70 --person 5"
        )
    print("\n\n".join(lines))
    print("\nCtrl-C stops everything; data and token stay for the next start.\n", flush=True)


def _first_session(url: str, token: str) -> list[str]:
    """Lines that work as they are when pasted into a shell, in this order."""
    header = f"-H 'X-StorageApi-Token: {token}'"
    find = f"curl -s {header} '{url}/provisioning/mysql?type=sandbox'"
    show_id = """python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'"""
    return [
        "Create a database and a login:\n"
        f"curl -s -X POST {header} -H 'Content-Type: application/json'"
        f""" -d '{{"type":"sandbox"}}' {url}/provisioning/mysql""",
        f"Look at it:\n{find}",
        "Use it, with the values of the answer:\n"
        "mysql -h HOSTNAME -P PORT -u USER -pPASSWORD DB -e 'select 1'",
        f"Drop it:\ncurl -s -X DELETE {header} {url}/provisioning/mysql/$({find} | {show_id})",
    ]


def _first_notebook(url: str, token: str) -> list[str]:
    """Lines that make a notebook with a sample table in it, and wait for its job."""
    header = f"-H 'X-StorageApi-Token: {token}'"
    table = '{"source":"in.c-main.orders","destination":"orders.csv","limit":100}'
    body = f'{{"type":"jupyter","script":"print(6*7)","input":{{"tables":[{table}]}}}}'
    return [
        "Create a notebook with a table in it:\n"
        f"curl -s -X POST {header} {url}/provisioning/async/docker -d '{body}'",
        "Wait for its job, whose result says where it is and the password:\n"
        f"curl -s {header} '{url}/queue/job/ID?wait=30'",
    ]


if __name__ == "__main__":
    sys.exit(main())
