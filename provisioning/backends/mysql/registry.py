"""MySQL servers that are registered while the service runs (contract 11.6, 11.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pymysql
import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from provisioning import errors
from provisioning.backends.mysql.check import check_server
from provisioning.backends.mysql.server import Server
from provisioning.backends.servers.admin_secrets import AdminSecrets
from provisioning.configuration.config import Config
from provisioning.configuration.secrets import Secret, Vault
from provisioning.configuration.servers import REGISTERED, MySQLServer
from provisioning.state.database import Database, next_numbers, read_clock
from provisioning.state.enums import ServerMode
from provisioning.state.formats import read_id
from provisioning.state.models import RegisteredServer

log = structlog.get_logger()

BACKEND = "mysql"


@dataclass(frozen=True)
class Registration:
    """What an operator registers of a server."""

    host: str
    port: int
    user: str
    password: Secret
    #: None is any.
    type: str | None = None
    #: None is inactive for a new server, and leaves a known one as it is.
    mode: ServerMode | None = None
    #: A database that the login must be able to open.
    database: str | None = None


class Registry:
    """The servers in the state. All processes of the service take them up within seconds."""

    def __init__(
        self, config: Config, database: Database, vault: Vault, admin_secrets: AdminSecrets
    ) -> None:
        self._config = config
        self._database = database
        self._vault = vault
        self._recorded = partial(admin_secrets.recorded, BACKEND)

    def servers(self) -> Sequence[MySQLServer] | None:
        """Return the configuration of each server, or None when the state cannot tell."""
        try:
            with self._database.read() as session:
                rows = session.scalars(select(RegisteredServer)).all()
        except (errors.StateUnavailable, DBAPIError):
            # No answer, or a state whose tables were not made yet.
            log.warning("servers_not_read")
            return None
        found = []
        for row in rows:
            try:
                found.append(self._config_of(row))
            except errors.ConfigurationError as problem:
                # One server whose password cannot be read is no reason to lose the others.
                log.error("server_not_read", server=self._name_of(row), failure=str(problem))
        return found

    def register(self, wanted: Registration, operator: str) -> RegisteredServer:
        """Record a server, whether or not it works; ``operator`` is who registers it.

        The same host and port again is the same server: it keeps its id, and what is told now
        replaces what was told before. Raises ``ParameterInvalid`` for a configured server.
        """
        self._require_not_configured(wanted)
        while True:
            row = self._draft(wanted)
            row.alive = self._is_alive(row)
            try:
                with self._database.write() as session:
                    row = session.merge(row)
            except IntegrityError:
                # Another request registered it at the same moment: now it is known.
                continue
            name = self._name_of(row)
            log.info("server_registered", server=name, alive=row.alive, operator=operator)
            return row

    def activate(self, server_id: str, operator: str) -> RegisteredServer:
        """Let a server have new credentials; raise ``ServerNotFound`` or ``ServerNotAlive``."""
        number = read_id(server_id)
        with self._database.read() as session:
            row = session.get(RegisteredServer, number) if number is not None else None
        if row is None:
            raise errors.ServerNotFound
        row.alive = self._is_alive(row)
        if row.alive:
            row.mode = ServerMode.ACTIVE
        # Only these two columns: another call may have registered the server again meanwhile.
        columns = {"alive": row.alive, "mode": row.mode} if row.alive else {"alive": False}
        with self._database.write() as session:
            session.execute(
                update(RegisteredServer).where(RegisteredServer.id == row.id).values(columns)
            )
        if not row.alive:
            raise errors.ServerNotAlive(row.id)
        log.info("server_activated", server=self._name_of(row), operator=operator)
        return row

    def _draft(self, wanted: Registration) -> RegisteredServer:
        """Return an unsaved row: the known server's with its id, or one with a new id."""
        known = select(RegisteredServer).where(
            RegisteredServer.host == wanted.host, RegisteredServer.port == wanted.port
        )
        with self._database.write() as session:
            row = session.scalars(known).first()
            number = row.id if row else next_numbers(session, "server")[0]
            created_at = row.created_at if row else read_clock(session)
        return RegisteredServer(
            id=number,
            host=wanted.host,
            port=wanted.port,
            user_name=wanted.user,
            secret=self._vault.encrypt(wanted.password),
            database=wanted.database,
            type=wanted.type,
            mode=wanted.mode or (row.mode if row else ServerMode.INACTIVE),
            created_at=created_at,
        )

    def _require_not_configured(self, wanted: Registration) -> None:
        for server in self._config.servers[BACKEND]:
            if (server.host.lower(), server.port) == (wanted.host, wanted.port):
                raise errors.ParameterInvalid("host", f"it is the configured '{server.name}'")

    def _is_alive(self, row: RegisteredServer) -> bool:
        """Return whether the server works; log the reason if it does not."""
        timeout = self._config.engine_timeout_seconds
        server = Server(self._config_of(row), timeout, 1, self._recorded)
        try:
            health = check_server(server)
            failure = None if health.alive else health.message
            if health.alive and row.database:
                failure = _failure_to_open(server, row.database)
        finally:
            server.close()
        if failure is not None:
            log.warning("server_not_alive", server=self._name_of(row), failure=failure)
        return failure is None

    @staticmethod
    def _name_of(row: RegisteredServer) -> str:
        return f"{REGISTERED}{row.id}"

    def _config_of(self, row: RegisteredServer) -> MySQLServer:
        return MySQLServer(
            name=self._name_of(row),
            host=row.host,
            port=row.port,
            user=row.user_name,
            password=self._vault.decrypt(row.secret),
            public_host=row.host,
            public_port=row.port,
            types=(row.type,) if row.type else (),
            takes_new=row.mode is ServerMode.ACTIVE,
        )


def _failure_to_open(server: Server, database: str) -> str | None:
    """Return why the admin login cannot open a database, or None if it can."""
    try:
        server.connect_admin(database).close()
    except pymysql.Error as problem:
        return f"database {database}: error {problem.args[0]}"
    return None
