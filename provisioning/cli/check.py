"""`provisioning check`: the whole configuration, and what will hurt."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import click
from rich.table import Table

from provisioning.backends.servers.admin_rotation import known_servers
from provisioning.cli.jobs import ping_workers
from provisioning.cli.output import print_table
from provisioning.configuration import config as configuration
from provisioning.configuration.config import Config
from provisioning.configuration.servers import SQLServer
from provisioning.credentials.administration import ServerCounts, count_credentials
from provisioning.credentials.observation import current_observation
from provisioning.errors import StateUnavailable
from provisioning.installation import Installation, build_installation
from provisioning.orphans.restore import last_sweep
from provisioning.state.database import Database, read_clock

#: Seconds after which proxies usually give a request up.
PROXY_SECONDS = 60
#: Sweeps that may be missing before somebody should look: one may take long.
MISSING_SWEEPS = 10
LOOPBACK = ("localhost", "127.0.0.1", "::1", "")


class Weight(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """Something that an operator should know."""

    weight: Weight
    about: str
    text: str


@click.command()
def check() -> None:
    """Look at the whole configuration, and at all it names; say what will hurt.

    Exits with 1 when something does not work. Run it where the service runs, with its environment.
    """
    config = configuration.load()
    findings = [*look_at_settings(config), *_look_at_service(config)]
    table = Table("weight", "about", "finding")
    for finding in sorted(findings, key=lambda found: list(Weight).index(found.weight)):
        table.add_row(finding.weight, finding.about, finding.text)
    if findings:
        print_table(table)
    else:
        click.echo("nothing to say")
    sys.exit(1 if any(finding.weight is Weight.ERROR for finding in findings) else 0)


# The settings ---------------------------------------------------------------------------


def look_at_settings(config: Config) -> Iterator[Finding]:
    """Yield what the settings alone tell."""
    yield from _look_at_addresses(config)
    yield from _look_at_waits(config)
    for name, url in (("STATE_URL", config.state_url), ("BROKER_URL", config.broker_url)):
        parts = urlsplit(url.reveal())
        if (parts.hostname or "") not in LOOPBACK and not parts.password:
            yield Finding(Weight.WARNING, name, "it is reached over the network without a password")
    if config.state_url.reveal().startswith("sqlite"):
        yield Finding(Weight.NOTE, "STATE_URL", "SQLite: all processes have to run on this machine")
    if config.maintenance_message:
        yield Finding(
            Weight.WARNING, "MAINTENANCE_MESSAGE", "it is set: every call but operators' is 503"
        )
    if config.provisioning_failpoints:
        yield Finding(Weight.ERROR, "PROVISIONING_FAILPOINTS", "it is for tests alone")
    if not any(config.servers.values()):
        yield Finding(
            Weight.WARNING, "servers", "none is configured; only MySQL servers can be registered"
        )
    for backend, servers in config.servers.items():
        for server in servers:
            if isinstance(server, SQLServer):
                yield from _look_at_server(f"{backend} {server.name}", server)


def _look_at_addresses(config: Config) -> Iterator[Finding]:
    if config.public_url:
        if not config.public_url.startswith("https://"):
            yield Finding(
                Weight.WARNING, "PUBLIC_URL", "it is not https: tokens and passwords go in clear"
            )
    else:
        yield Finding(
            Weight.NOTE,
            "PUBLIC_URL",
            "it is not set: addresses of jobs are as each request says; behind a proxy that is "
            f"none of TRUSTED_PROXIES ({','.join(config.trusted_proxies)}) they begin with http",
        )
    if "*" in config.trusted_proxies:
        yield Finding(
            Weight.WARNING, "TRUSTED_PROXIES", "every caller may say that it came by https"
        )
    if config.storage_api_url.startswith("http://"):
        yield Finding(Weight.WARNING, "STORAGE_API_URL", "tokens are sent to it in clear")


def _look_at_waits(config: Config) -> Iterator[Finding]:
    if config.delete_wait_seconds >= PROXY_SECONDS:
        yield Finding(
            Weight.WARNING,
            "DELETE_WAIT_SECONDS",
            f"proxies usually give a request up after {PROXY_SECONDS} s",
        )
    if config.creation_limit_seconds >= PROXY_SECONDS:
        yield Finding(
            Weight.NOTE,
            "CREATION_LIMIT_SECONDS",
            f"a create may take {config.creation_limit_seconds} s: a proxy in front has to wait "
            "longer, as those of deploy/ do",
        )


def _look_at_server(about: str, server: SQLServer) -> Iterator[Finding]:
    if server.public_host in LOOPBACK:
        yield Finding(Weight.WARNING, about, f"callers are told to connect to {server.public_host}")
    if server.user == "root":
        yield Finding(Weight.WARNING, about, "the admin login is root: give the service its own")
    if server.host not in LOOPBACK and not server.tls_ca:
        yield Finding(Weight.NOTE, about, "without tls_ca the server's certificate is not verified")


# What they name -------------------------------------------------------------------------


def _look_at_service(config: Config) -> Iterator[Finding]:
    """Yield what is found by connecting to the state, the broker and the servers."""
    database = Database(config.state_url, config.state_connections)
    try:
        current = database.is_current()
    except StateUnavailable as problem:
        yield Finding(Weight.ERROR, "STATE_URL", f"it does not answer: {problem.cause}")
        return
    if not current:
        yield Finding(Weight.ERROR, "STATE_URL", "it needs `provisioning db upgrade`")
        return
    installation = build_installation(config)
    yield from _look_at_processes(installation)
    yield from _look_at_servers(installation)


def _look_at_processes(installation: Installation) -> Iterator[Finding]:
    observation = current_observation(installation.database)
    if observation is not None:
        yield Finding(Weight.WARNING, "observe", f"the service only observes: {observation.why}")
    swept = last_sweep(installation.database)
    with installation.database.read() as session:
        silent = (read_clock(session) - swept) // 1000
    if silent > MISSING_SWEEPS * max(installation.config.sweep_seconds, 1):
        when = f"the last one was {silent} s ago" if swept else "there was none"
        yield Finding(
            Weight.WARNING, "sweeps", f"{when}: nothing expires without a beat and a worker"
        )
    if not ping_workers():
        yield Finding(
            Weight.ERROR, "workers", "none answers over the broker: deletes and jobs wait"
        )


def _look_at_servers(installation: Installation) -> Iterator[Finding]:
    for backend, engine in installation.backends.items():
        for health in engine.check():
            if not health.alive or health.message:
                weight = Weight.WARNING if health.alive else Weight.ERROR
                yield Finding(weight, f"{backend} {health.server}", health.message)
    counts = count_credentials(installation.database)
    for backend, server in known_servers(installation):
        live = counts.get((backend, server.name), ServerCounts()).live
        if 0 < server.max_credentials <= live:
            text = f"it is full: {live} credentials of at most {server.max_credentials}"
            yield Finding(Weight.WARNING, f"{backend} {server.name}", text)
