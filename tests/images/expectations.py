"""What holds for every image."""

import json

from tests.support.sandbox import Sandbox


def assert_nothing_secret_is_shown(sandbox: Sandbox, *more: str) -> None:
    """What the engine and the process table tell about the container has no secret in it."""
    container = sandbox.container
    container.reload()
    shown = {
        "inspect": json.dumps(container.attrs),
        "log": container.logs().decode(),
        # As `docker top` shows them, and what each process has in its environment.
        "processes": sandbox.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ")[1],
    }
    assert "python3" in shown["processes"]
    assert "HOSTNAME" in shown["processes"]
    for place, text in shown.items():
        for secret in (*sandbox.secrets, *more):
            assert secret not in text, f"a secret is in the container's {place}"
