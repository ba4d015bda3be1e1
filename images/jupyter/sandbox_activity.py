#!/usr/bin/env python3
"""Prints whether somebody works here: busy kernels, and the last time a kernel or terminal did.

An open page alone moves neither.
"""

import json
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any


def main() -> int:
    """Ask the server that started last."""
    servers = [*_runtime().glob("nbserver-*.json"), *_runtime().glob("jpserver-*.json")]
    if not servers:
        print("Jupyter does not run", file=sys.stderr)
        return 1
    server = json.loads(max(servers, key=lambda file: file.stat().st_mtime).read_text())
    kernels, terminals = _ask(server, "kernels"), _ask(server, "terminals")
    busy = sum(kernel["execution_state"] == "busy" for kernel in kernels)
    times = [each["last_activity"] for each in [*kernels, *terminals]]
    print(json.dumps({"busyKernels": busy, "lastActivity": max(times, default=None)}))
    return 0


def _runtime() -> Path:
    return Path.home() / ".local/share/jupyter/runtime"


def _ask(server: dict[str, Any], what: str) -> list[dict[str, Any]]:
    scheme = "https" if server["secure"] else "http"
    request = urllib.request.Request(
        f"{scheme}://127.0.0.1:{server['port']}/api/{what}?no_track_activity=1",
        headers={"Authorization": f"token {server['token']}"},
    )
    # The certificate is for the sandbox's public name, and this never leaves the container.
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


if __name__ == "__main__":
    sys.exit(main())
