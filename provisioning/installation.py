"""One installation: the configuration and the parts made from it, shared by a process."""

import atexit
from functools import cache, cached_property, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sqlalchemy import select

from provisioning.access.management_tokens import ManageTokens
from provisioning.access.quotas import Quotas
from provisioning.access.tokens import LocalTokens, StorageTokens, TokenVerifier
from provisioning.backends.base import Backend
from provisioning.backends.connections.slots import Lanes
from provisioning.backends.mysql.registry import Registry
from provisioning.backends.servers.admin_secrets import AdminSecrets
from provisioning.backends.servers.placement import Loads
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Vault
from provisioning.errors import ConfigurationError
from provisioning.state.claims import Keeper
from provisioning.state.database import Database, NumberBlocks
from provisioning.state.models import Setting

if TYPE_CHECKING:
    from provisioning.storage.client import StorageClient


class Installation:
    """What the front and the workers hold in common."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.database = Database(config["STATE_URL"], config["STATE_CONNECTIONS"])
        self.vault = Vault(config["ENCRYPTION_KEYS"])
        self.keeper = Keeper(self.database, config["CLAIM_SECONDS"])
        self.numbers = NumberBlocks(self.database, "credentials")
        self.loads = Loads(self.database)
        self.quotas = Quotas(self.database, config)
        # Half of the connections are always left to what people wait for.
        self.lanes = Lanes(max(config["ENGINE_CONNECTIONS"] // 2, 1))
        self.admin_secrets = AdminSecrets(self.database, self.vault)
        self.registry = Registry(config, self.database, self.vault, self.admin_secrets)
        self.backends = self._build_backends()
        self.storage = _build_storage(config)
        self.tokens: TokenVerifier = (
            StorageTokens(self.storage, config["TOKEN_CACHE_SECONDS"])
            if self.storage
            else LocalTokens(self.database)
        )
        self.manage_tokens = ManageTokens(self.database, config["MANAGE_CALLS_PER_MINUTE"])

        # Some servers keep the session of a client that just goes away.
        atexit.register(self.close)

    def close(self) -> None:
        """Close what the process holds open on servers."""
        for backend in self.backends.values():
            backend.close()
        self.database.dispose()

    @cached_property
    def prefix(self) -> str:
        """The start of every object name: as configured, or the code made at first start."""
        configured: str | None = self.config["NAME_PREFIX"]
        return f"{self.code}_" if configured is None else configured

    @cached_property
    def code(self) -> str:
        """The code made at first start, which never changes."""
        with self.database.read() as session:
            query = select(Setting.value).where(Setting.name == "code")
            return session.execute(query).scalar_one()

    def _build_backends(self) -> dict[str, Backend]:
        """Return the backends that have a server, or may get one while the process runs.

        A driver is imported only where it is used.
        """
        return {
            name: self._build_docker() if name == "docker" else self._build_sql(name)
            for name, servers in self.config.servers.items()
            if servers or name == "mysql"
        }

    def _build_docker(self) -> Backend:
        if find_spec("docker") is None:
            raise ConfigurationError("docker: install the package with its `docker` extra")
        from provisioning.backends.docker import DockerBackend, issue_certificate
        from provisioning.backends.docker.certificate import read_authority

        servers = self.config.servers["docker"]
        hosts = [server.public_host for server in servers]
        authority = cache(lambda: read_authority(self.database, self.vault))
        return DockerBackend(
            servers,
            self.config["ENGINE_TIMEOUT_SECONDS"],
            lambda: self.code,
            lambda: issue_certificate(authority(), hosts),
        )

    def _build_sql(self, name: str) -> Backend:
        config = self.config
        servers, limits = config.servers[name], config.limits(name)
        timeout, connections = config["ENGINE_TIMEOUT_SECONDS"], config["ENGINE_CONNECTIONS"]
        recorded = partial(self.admin_secrets.recorded, name)
        if name == "mysql":
            from provisioning.backends.mysql import MySQLBackend

            return MySQLBackend(
                servers,
                limits,
                timeout,
                connections,
                registered=self.registry.servers,
                recorded=recorded,
            )
        if name == "snowflake":
            if find_spec("snowflake") is None:
                raise ConfigurationError(
                    "snowflake: install the package with its `snowflake` extra"
                )
            from provisioning.backends.snowflake import SnowflakeBackend

            return SnowflakeBackend(servers, limits, timeout, connections)
        from provisioning.backends.redshift import RedshiftBackend

        return RedshiftBackend(name, servers, limits, timeout, connections, recorded=recorded)


def _build_storage(config: Config) -> "StorageClient | None":
    if not config["STORAGE_API_URL"]:
        return None
    # The HTTP client's memory is spent only where there is a Storage API.
    from provisioning.storage.client import StorageClient

    return StorageClient(config["STORAGE_API_URL"], config["TOKEN_TIMEOUT_SECONDS"])
