"""Builds the backends that the configuration names.

A driver is imported only where it is used: a process without sandboxes needs no Docker client.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

from provisioning.backends.base import Backend
from provisioning.backends.mysql.registry import Registry
from provisioning.backends.servers.admin_secrets import AdminSecrets
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Secret, Vault, generate_password
from provisioning.errors import ConfigurationError
from provisioning.state.bootstrap import read_sealed
from provisioning.state.database import Database


@dataclass(frozen=True)
class BackendFactory:
    """What backends are built from. ``code`` returns the installation's code."""

    config: Config
    database: Database
    vault: Vault
    admin_secrets: AdminSecrets
    registry: Registry
    code: Callable[[], str]

    def build_all(self) -> dict[str, Backend]:
        """Return the backends that have a server, or may get one while the process runs."""
        return {
            name: self._build_docker() if name == "docker" else self._build_sql(name)
            for name, servers in self.config.servers.items()
            if servers or name == "mysql"
        }

    def _build_docker(self) -> Backend:
        _require_driver("docker")
        from provisioning.backends.docker import DockerBackend, issue_certificate
        from provisioning.backends.docker.certificate import read_authority

        servers = self.config.servers["docker"]
        hosts = [server.public_host for server in servers]
        authority = cache(lambda: read_authority(self.database, self.vault))
        return DockerBackend(
            servers,
            self.config.engine_timeout_seconds,
            self.code,
            lambda: issue_certificate(authority(), hosts),
        )

    def _build_sql(self, name: str) -> Backend:
        config = self.config
        servers, limits = config.servers[name], config.limits(name)
        timeout, connections = config.engine_timeout_seconds, config.engine_connections
        recorded = partial(self.admin_secrets.recorded, name)
        if name == "mysql":
            from provisioning.backends.mysql import MySQLBackend

            return MySQLBackend(
                servers,
                limits,
                timeout,
                connections,
                lock_secret=cache(self._read_lock_secret),
                registered=self.registry.servers,
                recorded=recorded,
            )
        if name == "snowflake":
            _require_driver("snowflake")
            from provisioning.backends.snowflake import SnowflakeBackend

            return SnowflakeBackend(servers, limits, timeout, connections)
        from provisioning.backends.redshift import RedshiftBackend

        return RedshiftBackend(name, servers, limits, timeout, connections, recorded=recorded)

    def _read_lock_secret(self) -> Secret:
        """Return what names of locks on servers are keyed with."""
        return read_sealed(self.database, self.vault, "lock secret", generate_password)


def _require_driver(package: str) -> None:
    """Raise ``ConfigurationError`` unless the optional driver of that name is installed."""
    if find_spec(package) is None:
        raise ConfigurationError(f"{package}: install the package with its `{package}` extra")
