"""How each process starts: with its configuration, its logs, and a line that says with what."""

import os
import re
import sys
from importlib.metadata import version
from typing import Any

import structlog

from provisioning.configuration import config
from provisioning.configuration.config import Config
from provisioning.configuration.logs import configure_logs
from provisioning.configuration.secrets import Secret
from provisioning.errors import ConfigurationError

log = structlog.get_logger()

#: The exit status of a process whose configuration cannot be used (sysexits.h).
EX_CONFIG = 78


def load_or_exit() -> Config:
    """Set up the logs and return the configuration; if it cannot be used, say so and exit."""
    try:
        loaded = config.load()
    except ConfigurationError as problem:
        # In the form that lines are to have, as far as that can be read.
        configure_logs("json" if os.environ.get("LOG_FORMAT") == "json" else "console", "info")
        log.critical("configuration_unusable", problem=str(problem))
        sys.exit(EX_CONFIG)
    configure_logs(loaded.log_format, loaded.log_level)
    return loaded


def log_start(loaded: Config, process: str, **more: Any) -> None:
    """Write the line of a process that has started."""
    log.info(
        "started",
        process=process,
        version=version("provisioning-service"),
        state=address_of(loaded.state_url),
        broker=address_of(loaded.broker_url),
        storage_api=loaded.storage_api_url or None,
        public_url=loaded.public_url or None,
        servers=[
            f"{backend} {server.name} {server.location}"
            for backend, servers in loaded.servers.items()
            for server in servers
        ],
        **more,
    )


def address_of(url: Secret) -> str:
    """Return an address without its login and its options."""
    return re.sub(r"//.*@", "//", url.reveal().partition("?")[0])
