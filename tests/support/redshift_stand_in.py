"""A stand-in for Redshift: a recording proxy before a PostgreSQL. It is no Redshift.

It names itself as Redshift does, so the service talks to it in Redshift's dialect, and keeps
every statement. What Redshift lacks it refuses, and what only Redshift has it rewrites to what
PostgreSQL takes, or finds as a view. All of it is from the public documentation: it proves the
order, the repetition and the text of the statements, not that a cluster takes them.
"""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import psycopg2

from devstack.postgres import Postgres
from provisioning.configuration.secrets import Secret, generate_password

VERSION = (
    "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 "
    "(Red Hat 3.4.2-6.fc3), Redshift 1.0.12345"
)
ADMIN, DATABASE = "awsuser", "dev"

#: Redshift's relations, with what the service and the tests use of them. Only superusers may
#: read those that are not granted to everybody.
VIEWS = {
    "stv_sessions": (
        "SELECT backend_start::timestamp AS starttime, pid AS process, "
        "usename::char(50) AS user_name, datname::char(50) AS db_name, 0 AS timeout_sec "
        "FROM pg_stat_activity WHERE usename = current_user OR usename IS NOT NULL AND "
        "(SELECT usesuper FROM pg_user WHERE usename = current_user)"
    ),
    "svv_table_info": 'SELECT schemaname AS schema, tablename AS "table" FROM pg_tables',
    "pg_user_info": (
        "SELECT rolname AS usename, oid AS usesysid, rolsuper AS usesuper, rolvaliduntil AS "
        "valuntil, CASE WHEN rolconnlimit >= 0 THEN rolconnlimit::text END AS useconnlimit "
        "FROM pg_roles WHERE rolcanlogin"
    ),
    "pg_proc_info": "SELECT oid AS prooid, * FROM pg_proc",
    "pg_attribute_info": "SELECT * FROM pg_attribute",
}
PUBLIC_VIEWS = ("stv_sessions", "pg_proc_info")

#: What Redshift refuses, or does not document, as a pattern, with SQLSTATE and message.
REFUSED = (
    (r"\b(drop|reassign)\s+owned\b", "42601", 'syntax error at or near "owned"'),
    (r"^\s*grant\s+\S+\s+to\b", "42601", 'syntax error at or near "to"'),
    (r"\bpg_(try_)?advisory\w*", "42883", "function {0} does not exist"),
    (r"\baclexplode\b", "42883", "function {0} does not exist"),
    (r"\b(idle_in_transaction_session|lock)_timeout\b", "42704", 'unrecognized parameter "{0}"'),
    (r"\bpg_(roles|authid|auth_members|shdepend)\b", "42P01", 'relation "{0}" does not exist'),
    (r"\bdefaclrole\b", "42703", 'column "{0}" does not exist'),
    (r"\bpg_stat_activity\b.*\bpid\b", "42703", 'column "pid" does not exist'),
    (r"\bpid\b.*\bpg_stat_activity\b", "42703", 'column "pid" does not exist'),
    (r"\bE'", "42704", 'type "e" does not exist'),
)

#: What PostgreSQL gets instead of what only Redshift understands.
REWRITTEN = (
    (r"\bversion\(\)", f"CAST('{VERSION}' AS text)"),
    (r"(?<=\")\s+quota\s+(\d+\s*(mb|gb|tb)?|unlimited)\b", ""),
    (r"\bconnection\s+limit\s+unlimited\b", "CONNECTION LIMIT -1"),
    (r"\bdefacluser\b", "defaclrole"),
    # DROP USER is refused with another SQLSTATE.
    (
        r"^\s*drop\s+user\b.*$",
        r"DO $$ BEGIN \g<0>; EXCEPTION WHEN dependent_objects_still_exist THEN "
        r"RAISE EXCEPTION USING ERRCODE = '55006', MESSAGE = SQLERRM; END $$",
    ),
)

_STARTUP, _CANCEL = 3 << 16, 80877102
_ENCRYPTION = {80877103, 80877104}


@dataclass(frozen=True)
class Statement:
    """What somebody said to the stand-in, before it was rewritten."""

    user: str
    sql: str


class RedshiftStandIn:
    """Runs the proxy on a free port, before a database of its own, with a superuser as admin."""

    def __init__(self, postgres: Postgres) -> None:
        self.database = DATABASE
        self.user = ADMIN
        self.password: Secret = generate_password()
        self._postgres = postgres
        self._statements: list[Statement] = []
        self._prepare()
        self._listener = socket.create_server((postgres.host, 0))
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The setting that makes it the service's Redshift."""
        login = f"{self.user}:{self.password.reveal()}@{self.host}:{self.port}"
        return f"redshift-workspace://{login}/{self.database}"

    def close(self) -> None:
        # Closing alone would leave the thread that accepts waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def administer(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the stand-in's database, past the proxy."""
        url = self._postgres.database_url(self.database).replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall()) if cursor.description else []

    @contextmanager
    def recording(self) -> Iterator[list[str]]:
        """Collect what the admin says during the block; it is there at the block's end."""
        before = len(self._statements)
        said: list[str] = []
        yield said
        said += [words.sql for words in self._statements[before:] if words.user == self.user]

    def _prepare(self) -> None:
        self._postgres.ensure_database(self.database)
        self.administer(f"CREATE USER {self.user} SUPERUSER PASSWORD %s", self.password.reveal())
        for name, query in VIEWS.items():
            # Redshift's own relations are found whatever the search path.
            self.administer(
                f"SET allow_system_table_mods = on; CREATE VIEW pg_catalog.{name} AS {query}"
            )
        for name in PUBLIC_VIEWS:
            self.administer(f"GRANT SELECT ON {name} TO PUBLIC")
        # There, everybody may make things in this schema.
        self.administer("GRANT CREATE ON SCHEMA public TO PUBLIC")

    # Proxy --------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = (self._postgres.host, self._postgres.port)
        with (
            suppress(OSError, EOFError),
            client,
            client.makefile("rb") as messages,
            socket.create_connection(address) as server,
        ):
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            user = _start(client, messages, server)
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()
            try:
                while True:
                    self._pass_on(user, messages, server)
            finally:
                server.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, user: str, messages: BinaryIO, server: socket.socket) -> None:
        kind, body = _read(messages, 1), _read_body(messages)
        if kind == b"Q":
            sql = body.rstrip(b"\0").decode()
            self._statements.append(Statement(user, sql))
            body = translate(sql).encode() + b"\0"
        server.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def translate(sql: str) -> str:
    """Return what PostgreSQL is to run instead of a statement for Redshift."""
    for pattern, state, message in REFUSED:
        if found := re.search(pattern, sql, re.IGNORECASE | re.DOTALL):
            text = message.format(found[0])
            return f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE='{state}', MESSAGE='{text}'; END $$"
    for pattern, replacement in REWRITTEN:
        sql = re.sub(pattern, replacement, sql, flags=re.IGNORECASE | re.DOTALL)
    return sql


def _start(client: socket.socket, messages: BinaryIO, server: socket.socket) -> str:
    """Pass the first message on and return who logs in; there is no encryption."""
    while True:
        body = _read_body(messages)
        (code,) = struct.unpack("!i", body[:4])
        if code not in _ENCRYPTION:
            break
        client.sendall(b"N")
    server.sendall(struct.pack("!i", len(body) + 4) + body)
    if code == _CANCEL:
        raise EOFError
    assert code == _STARTUP, code
    words = body[4:].rstrip(b"\0").split(b"\0")
    return dict(zip(words[::2], words[1::2], strict=True))[b"user"].decode()


def _read_body(messages: BinaryIO) -> bytes:
    (length,) = struct.unpack("!i", _read(messages, 4))
    return _read(messages, length - 4)


def _read(messages: BinaryIO, size: int) -> bytes:
    data = messages.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what the server says; its end is the client's."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
