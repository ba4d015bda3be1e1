"""One installation: the configuration and the parts made from it, shared by a process."""

import atexit
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from provisioning.access.management_tokens import ManageTokens
from provisioning.access.quotas import Quotas
from provisioning.access.tokens import LocalTokens, StorageTokens, TokenVerifier
from provisioning.backends.base import Backend
from provisioning.backends.connections.slots import BatchSlots
from provisioning.backends.factory import BackendFactory
from provisioning.backends.mysql.registry import Registry
from provisioning.backends.servers.admin_secrets import AdminSecrets
from provisioning.backends.servers.placement import ServerLoads
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Vault
from provisioning.state.bootstrap import read_code
from provisioning.state.claims import Keeper
from provisioning.state.database import Database, NumberBlocks

if TYPE_CHECKING:
    from provisioning.storage.client import StorageClient


# Compared by identity, and without a text of all its parts.
@dataclass(eq=False, repr=False)
class Installation:
    """What the front and the workers hold in common."""

    config: Config
    database: Database
    vault: Vault
    keeper: Keeper
    numbers: NumberBlocks
    loads: ServerLoads
    quotas: Quotas
    batch_slots: BatchSlots
    admin_secrets: AdminSecrets
    registry: Registry
    backends: dict[str, Backend]
    storage: "StorageClient | None"
    tokens: TokenVerifier
    manage_tokens: ManageTokens
    read_code: Callable[[], str]

    def close(self) -> None:
        """Close what the process holds open on servers."""
        for backend in self.backends.values():
            backend.close()
        self.database.dispose()

    @cached_property
    def prefix(self) -> str:
        """The start of every object name: as configured, or the code made at first start."""
        configured = self.config.name_prefix
        return f"{self.code}_" if configured is None else configured

    @property
    def code(self) -> str:
        """The code made at first start, which never changes."""
        return self.read_code()


def build_installation(config: Config) -> Installation:
    """Make the parts and wire them. No server is asked, and no table read."""
    database = Database(config.state_url, config.state_connections)
    vault = Vault(config.encryption_keys)
    admin_secrets = AdminSecrets(database, vault)
    registry = Registry(config, database, vault, admin_secrets)
    code = cache(partial(read_code, database))
    factory = BackendFactory(config, database, vault, admin_secrets, registry, code)
    storage = _build_storage(config)
    tokens: TokenVerifier = (
        StorageTokens(storage, config.token_cache_seconds) if storage else LocalTokens(database)
    )
    installation = Installation(
        config=config,
        database=database,
        vault=vault,
        keeper=Keeper(database, config.claim_seconds),
        numbers=NumberBlocks(database, "credentials"),
        loads=ServerLoads(database),
        quotas=Quotas(database, config),
        # Half of the connections are always left to what people wait for.
        batch_slots=BatchSlots(max(config.engine_connections // 2, 1)),
        admin_secrets=admin_secrets,
        registry=registry,
        backends=factory.build_all(),
        storage=storage,
        tokens=tokens,
        manage_tokens=ManageTokens(database, config.manage_calls_per_minute),
        read_code=code,
    )
    # Some servers keep the session of a client that just goes away.
    atexit.register(installation.close)
    return installation


def _build_storage(config: Config) -> "StorageClient | None":
    if not config.storage_api_url:
        return None
    # The HTTP client's memory is spent only where there is a Storage API.
    from provisioning.storage.client import StorageClient

    return StorageClient(config.storage_api_url, config.token_timeout_seconds)
