"""Waits until a started sandbox serves its page, or raises the reason why it does not."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from provisioning.backends.base import EngineError, EngineRefused, Spec
from provisioning.backends.docker.engine import Container, Engine
from provisioning.backends.docker.images import SANDBOX_TYPES
from provisioning.backends.docker.page import Page

#: Seconds between two looks at the page, and at the container: the engine waits twice as long
#: at least before it starts one again that has ended.
PAGE_PAUSE, CONTAINER_PAUSE = 0.02, 0.05
#: Seconds one look at the page may take (contract 8.4.1), and at the end of the time for all.
PAGE_SECONDS, LAST_SECONDS = 5.0, 1.0
LOG_LINES = 20
LOG_WIDTH = 2000
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\x20-\x7e\n]")


def wait_until_ready(
    engine: Engine,
    spec: Spec,
    certificate: bytes | None,
    *,
    check: Callable[[], None] = lambda: None,
    secrets: Sequence[str] | None = None,
) -> None:
    """Return once the page is there; raise ``EngineRefused`` with the reason why not.

    ``check`` raises when the work shall stop. The end of the container's log is part of the
    reason if its ``secrets`` are known, since they are taken out of it.
    """
    config = engine.config
    kind = SANDBOX_TYPES[spec.type]
    page = Page(config.probe_host or config.public_host, spec.port or 0, kind.word, certificate)
    start = time.monotonic()
    look_at = 0.0
    while True:
        left = start + config.ready_seconds - time.monotonic()
        flaw = page.flaw(min(PAGE_SECONDS, max(left, LAST_SECONDS)))
        if flaw is None:
            return
        check()
        if time.monotonic() >= look_at:
            require_running(engine, spec, secrets)
            look_at = time.monotonic() + CONTAINER_PAUSE
        if left <= 0:
            reason = f"not ready within {config.ready_seconds} s: {flaw}"
            raise _failure(engine, spec, reason, secrets)
        time.sleep(PAGE_PAUSE)


def require_running(engine: Engine, spec: Spec, secrets: Sequence[str] | None) -> None:
    """Raise ``EngineRefused`` with the reason if the container does not run."""
    container = engine.find_container(spec.object_name)
    if container is None:
        raise EngineRefused(f"server {spec.server}: container {spec.object_name} is gone")
    if reason := _reason(engine, container):
        raise _failure(engine, spec, reason, secrets)


def _reason(engine: Engine, container: Container) -> str | None:
    """Return why a container that should run does not; None when it does."""
    if container.out_of_memory:
        return f"out of memory: it has {engine.config.memory_mb} MB"
    if container.status != "running":
        return f"it ended with exit code {container.exit_code}"
    if container.unhealthy:
        return "its health check fails"
    return None


def _failure(
    engine: Engine, spec: Spec, reason: str, secrets: Sequence[str] | None
) -> EngineRefused:
    text = f"server {spec.server}: container {spec.object_name}: {reason}"
    if secrets is not None:
        # The reason is worth more than the log.
        with suppress(EngineError):
            tail = clean_log(engine.log_tail(spec.object_name, LOG_LINES), secrets)
            text += f"; its log ends: {tail}" if tail else ""
    return EngineRefused(text)


def clean_log(text: str, secrets: Sequence[str]) -> str:
    """Return the last lines in one, without secrets and what terminals do not print."""
    text = _UNPRINTABLE.sub("", text)
    for secret in secrets:
        text = text.replace(secret, "***")
    lines = (line.strip() for line in text.splitlines())
    return " | ".join(line for line in lines if line)[-LOG_WIDTH:]
