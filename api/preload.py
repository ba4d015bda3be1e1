"""What Gunicorn's first process loads, as its configuration: the code, but no application.

The processes that answer requests are forked from it. They have the code at once, share its
memory, and one that died is replaced without loading it all again. Each makes an application of
its own: connections and threads must not be shared.
"""

import os
import shutil
import tempfile
from typing import Any

from gunicorn import glogging

from provisioning.configuration.starting import load_or_exit, log_start

#: Where the processes count together. The library reads it as it is loaded, below.
_counts = tempfile.mkdtemp(prefix="provisioning-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _counts

from prometheus_client import multiprocess  # noqa: E402

import api.app  # noqa: E402, F401

_config = load_or_exit()
forwarded_allow_ips = ",".join(_config.trusted_proxies)


class Logger(glogging.Logger):  # type: ignore[misc]
    """Writes what Gunicorn has to say the way the service does."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = Logger


def when_ready(server: Any) -> None:
    """Say that the sockets are open."""
    log_start(_config, "web", listening=[str(listener) for listener in server.LISTENERS])


def child_exit(_: Any, worker: Any) -> None:
    """Keep the counts of a process that has ended, but not its states."""
    multiprocess.mark_process_dead(worker.pid, _counts)  # type: ignore[no-untyped-call]


def on_exit(_: Any) -> None:
    """Leave no files behind."""
    shutil.rmtree(_counts, ignore_errors=True)
