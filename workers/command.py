"""The application as Celery's commands find it, with the configuration read and the logs set up."""

import sys
from typing import Any

import structlog
from celery.signals import beat_init, worker_init, worker_shutting_down
from prometheus_client import start_http_server

from provisioning.configuration.starting import load_or_exit, log_start
from workers.app import app

__all__ = ["app"]

log = structlog.get_logger()
_config = load_or_exit()


@worker_init.connect
def _begin_worker(sender: Any, **_: Any) -> None:
    log_start(_config, "worker", name=sender.hostname)
    if _config.metrics_listen:
        host, port = _config.metrics_listen.split(":")
        start_http_server(int(port), host)
    # Where Celery says goodbye, in plain text whatever the form of logs.
    sys.__stdout__ = None  # type: ignore[misc]


@worker_shutting_down.connect
def _end_worker(sig: str, **_: Any) -> None:
    log.info("stopping", signal=sig)


@beat_init.connect
def _begin_beat(**_: Any) -> None:
    log_start(_config, "beat")
