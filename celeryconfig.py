"""Celery's settings. Jobs live in the state database; the broker only carries wake-ups."""

import socket

from provisioning.configuration import config
from provisioning.configuration.queues import DEFAULT_QUEUE, SWEEPS
from workers.schedule import Steadily

_settings = config.load()
_sweep_seconds = max(_settings.sweep_seconds, 1)

broker_url = _settings.broker_url.reveal()
broker_connection_retry_on_startup = True
# A worker outlives any outage; by itself it would give up after a hundred tries.
broker_connection_max_retries = None
broker_connection_timeout = 2
# A connection whose other end is gone without a word is noticed within some ten seconds: RabbitMQ
# and we by heartbeats, Redis by the kernel's.
broker_heartbeat = 10
broker_transport_options = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "socket_keepalive_options": {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 2,
        socket.TCP_KEEPCNT: 3,
    },
}
task_ignore_result = True
# Messages are taken off at once: a lost one is found again by the sweep.
task_acks_late = False
worker_prefetch_multiplier = 1
# It would change the limit from the threads of tasks, over a connection that the main thread reads
# from: after RabbitMQ's return both wait for an answer that the other has taken.
worker_enable_prefetch_count_reduction = False
worker_hijack_root_logger = False
task_serializer = "json"
accept_content = ["json"]
task_default_queue = DEFAULT_QUEUE
timezone = "UTC"

beat_scheduler = "workers.beat:Scheduler"
_pauses = {
    "sweep": _sweep_seconds,
    "warnings": _sweep_seconds,
    "orphans": _settings.orphan_check_seconds,
}
beat_schedule = {
    task: {
        "task": task,
        "schedule": Steadily(float(seconds)),
        # No `expires`: the worker's clock would find all that another machine sends too old. The
        # scheduler keeps them from piling up.
        "options": {"queue": SWEEPS},
    }
    for task, seconds in _pauses.items()
    if seconds
}
