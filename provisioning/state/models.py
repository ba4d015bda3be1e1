"""The tables of the state database. All times are milliseconds since 1970 by its own clock."""

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from provisioning.configuration.secrets import Sealed
from provisioning.state.enums import (
    CallbackState,
    CredentialsState,
    JobCommand,
    JobStatus,
    ServerMode,
)
from provisioning.state.migrations.tables import TABLE_OPTIONS


def _values_of(enum: type[StrEnum]) -> list[str]:
    return [member.value for member in enum]


def _enum(enum: type[StrEnum]) -> Enum:
    """Keep an enum as plain text, so that a new member needs no change of the column."""
    return Enum(enum, native_enum=False, length=16, values_callable=_values_of)


class SealedText(Text):
    """The type of columns with encrypted values: a rotation of keys goes through all of them."""


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        Sealed: SealedText,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
        dict[str, int]: JSON,
    }
    __table_args__: Any = TABLE_OPTIONS


class Claim:
    """Columns of rows that one process at a time may work on.

    ``claim_token`` grows by one with every claim. The holder names it in each write, so a
    holder that lost its claim changes nothing.
    """

    claim_token: Mapped[int] = mapped_column(default=0)
    claim_owner: Mapped[str | None] = mapped_column(String(128))
    claim_until: Mapped[int | None]
    #: Steps that failed and are tried again, and when at the earliest.
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[int] = mapped_column(default=0)


class Credentials(Claim, Base):
    """The promise: one credential, its objects' names and its encrypted secrets."""

    __tablename__ = "credentials"
    __table_args__ = (
        Index("ix_credentials_state", "state", "expires_at"),
        Index("ix_credentials_expiry", "state", "backend", "server", "expires_at"),
        Index("ix_credentials_login", "login_id"),
        Index("ux_credentials_port", "server", "port", unique=True),
        Index("ix_credentials_dropped", "dropped_at"),
        Index("ix_credentials_project", "project_id", "state"),
        Index("ix_credentials_attend", "state", "attend_at"),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    backend: Mapped[str] = mapped_column(String(32))
    type: Mapped[str] = mapped_column(String(32))
    state: Mapped[CredentialsState] = mapped_column(_enum(CredentialsState))
    #: ``token:backend:type`` while the row stands in the way of another one, else NULL.
    slot: Mapped[str | None] = mapped_column(String(160), unique=True)

    project_id: Mapped[str] = mapped_column(String(64))
    project_name: Mapped[str] = mapped_column(String(255))
    token_id: Mapped[str] = mapped_column(String(64))
    token_description: Mapped[str] = mapped_column(String(255))

    server: Mapped[str] = mapped_column(String(64))
    user_name: Mapped[str] = mapped_column(String(64))
    #: The database, schema or container.
    object_name: Mapped[str] = mapped_column(String(128))
    #: The published port of a sandbox, its own until it is gone.
    port: Mapped[int | None]
    #: The password, encrypted; empty when the credential is gone.
    secret: Mapped[Sealed]
    #: The password that is being set on the server, which may have it already, encrypted.
    pending_secret: Mapped[Sealed | None]
    #: When the server ends a password that it chose itself; NULL is never.
    password_ends_at: Mapped[int | None]
    #: The key that may log in, as `provisioning.backends.key_pairs` keeps it.
    public_key: Mapped[str | None] = mapped_column(Text)
    #: Its other half, encrypted, if the pair is ours.
    private_key: Mapped[Sealed | None]
    login_id: Mapped[int | None] = mapped_column(ForeignKey("logins.id"))

    created_at: Mapped[int]
    #: A multiple of 1000: the API prints whole seconds (contract 4.5).
    touched_at: Mapped[int]
    #: NULL is never.
    expires_at: Mapped[int | None]
    #: Until then an operator keeps it, whatever ``expires_at`` says.
    protected_until: Mapped[int | None]
    #: When it is looked at next because of its end (`credentials.warnings`); NULL is never.
    attend_at: Mapped[int | None]
    #: When its owner was warned last.
    warned_at: Mapped[int | None]
    #: The end that the note in a sandbox names; NULL without a note.
    noted_end: Mapped[int | None]
    #: The end that it got because somebody worked in it; an extend makes another one possible.
    grace_until: Mapped[int | None]
    dropped_at: Mapped[int | None]
    #: When nobody could use it any more, where its objects could not be removed at once.
    access_ended_at: Mapped[int | None]
    #: How many of its owner's callers wait to be told of its removal, or were told to come again;
    #: NULL where nobody has waited.
    asked: Mapped[int | None]
    #: When the first of them was told to come again.
    sent_away_at: Mapped[int | None]
    #: The unfinished create or delete job in charge; without one the sweep drives the row.
    job_id: Mapped[int | None]
    #: Why the last step failed, for operators.
    failure: Mapped[str | None] = mapped_column(Text)

    @property
    def ends_at(self) -> int | None:
        """When it is gone; None is never."""
        if self.expires_at is None:
            return None
        return max(self.expires_at, self.protected_until or 0)


class Login(Claim, Base):
    """A MySQL login that all sandboxes of one person on one server share (contract 10.1)."""

    __tablename__ = "logins"
    __table_args__ = (Index("ux_logins_person", "server", "person", unique=True), TABLE_OPTIONS)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    server: Mapped[str] = mapped_column(String(64))
    person: Mapped[str] = mapped_column(String(80))
    user_name: Mapped[str] = mapped_column(String(64))
    #: As in the rows of its credentials, which have a copy of both.
    secret: Mapped[Sealed]
    pending_secret: Mapped[Sealed | None]


class Job(Claim, Base):
    """The queue of record: one job (contract section 9)."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_status", "status", "id"),
        Index("ix_jobs_slot", "slot", "status"),
        Index("ix_jobs_project", "project_id", "id"),
        Index("ix_jobs_turns", "status", "project_id", "id"),
        Index("ix_jobs_served", "project_id", "started_at"),
        Index("ux_jobs_place", "project_id", "place", unique=True),
        Index("ix_jobs_unfinished", "ended_at", "backend", "not_before"),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run_id: Mapped[str] = mapped_column(Text)
    command: Mapped[JobCommand] = mapped_column(_enum(JobCommand))
    status: Mapped[JobStatus] = mapped_column(_enum(JobStatus))
    backend: Mapped[str] = mapped_column(String(32))
    params: Mapped[dict[str, Any]]
    #: What is asked for beyond ``params``, encrypted: it holds the caller's token and script.
    #: Gone when the job is finished.
    request: Mapped[Sealed | None]
    #: Callers see it once the job is finished; a failed creation is cleaned up before that.
    result: Mapped[dict[str, Any]]
    #: Steps as ``{"step", "percent", "message", "time"}``; time in milliseconds.
    progress: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    #: None until a creation has recorded what it makes.
    credentials_id: Mapped[int | None]
    #: ``token:backend:type``: jobs of one slot run one after the other (contract 9.1.9).
    slot: Mapped[str] = mapped_column(String(160))
    #: How many such jobs of the project may run at once; NULL is no limit.
    parallel_limit: Mapped[int | None]
    #: Where a limit holds, the running job's own number from 1 to that limit, else NULL.
    place: Mapped[int | None]

    project_id: Mapped[str] = mapped_column(String(64))
    project_name: Mapped[str] = mapped_column(String(255))
    token_id: Mapped[str] = mapped_column(String(64))
    token_description: Mapped[str] = mapped_column(String(255))

    created_at: Mapped[int]
    started_at: Mapped[int | None]
    ended_at: Mapped[int | None]
    process_host: Mapped[str | None] = mapped_column(String(128))
    process_pid: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(32))
    error_note: Mapped[str | None] = mapped_column(String(64))
    #: ``{"id", "description"}`` of the token that killed the job.
    terminated_by: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: Why the last attempt failed, for operators; never shown to callers.
    failure: Mapped[str | None] = mapped_column(Text)


class Callback(Claim, Base):
    """Where to send the message of a job's end; ``id`` is the job's."""

    __tablename__ = "callbacks"
    __table_args__ = (Index("ix_callbacks_state", "state", "not_before"), TABLE_OPTIONS)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[CallbackState] = mapped_column(_enum(CallbackState))
    #: Encrypted; gone when nobody is to be told any more.
    url: Mapped[Sealed]
    #: The address of the job's record, for the message.
    job_url: Mapped[str] = mapped_column(Text)
    #: Why the last try failed, for operators.
    failure: Mapped[str | None] = mapped_column(Text)


class Notice(Claim, Base):
    """A warning of a credential's end that the operator's server has not taken yet."""

    __tablename__ = "notices"
    __table_args__ = (Index("ix_notices_not_before", "not_before"), TABLE_OPTIONS)

    #: As of an event.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True
    )
    credentials_id: Mapped[int]
    backend: Mapped[str] = mapped_column(String(32))
    #: Seconds before the end at which it became due.
    lead: Mapped[int]
    #: The end it names: with another one it is void.
    ends_at: Mapped[int]
    created_at: Mapped[int]
    #: Why the last try failed, for operators.
    failure: Mapped[str | None] = mapped_column(Text)


class Event(Base):
    """What was done, when, and for whom: rows that are only ever added, with no secret in them."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_job", "job_id", "id"),
        Index("ix_events_credentials", "credentials_id", "id"),
        Index("ix_events_project", "project_id", "id"),
        Index("ix_events_token", "token_id", "id"),
        Index("ix_events_run", "run_id", "id"),
        Index("ix_events_action", "action", "id"),
        Index("ix_events_time", "time"),
        TABLE_OPTIONS,
    )

    #: The database counts, which costs a creation no round trip. SQLite does so in columns of
    #: its own integer type only.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True
    )
    time: Mapped[int]
    #: One of `provisioning.state.events.Action`.
    action: Mapped[str] = mapped_column(String(32))
    #: Empty for what concerns the installation.
    project_id: Mapped[str] = mapped_column(String(64))
    #: Who asked for it, ``operator:...`` for operators; what the service does by itself, it does
    #: for the credential's owner.
    token_id: Mapped[str] = mapped_column(String(64))
    #: The start of it: a run id may be of any length.
    run_id: Mapped[str] = mapped_column(String(255))
    job_id: Mapped[int | None]
    credentials_id: Mapped[int | None]
    #: The process, as ``host:pid``.
    worker: Mapped[str] = mapped_column(String(128))
    #: Milliseconds since the work it records began.
    duration: Mapped[int | None]
    #: What callers of the project may read.
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: Why it failed, for operators; never shown to callers.
    failure: Mapped[str | None] = mapped_column(Text)


class RegisteredServer(Base):
    """A MySQL server that was registered while the service ran (contract 11.6)."""

    __tablename__ = "servers"
    __table_args__ = (Index("ux_servers_address", "host", "port", unique=True), TABLE_OPTIONS)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    host: Mapped[str] = mapped_column(String(255))
    port: Mapped[int]
    user_name: Mapped[str] = mapped_column(String(128))
    #: The password of ``user_name``, until it is rotated.
    secret: Mapped[Sealed]
    #: A database that the login must be able to open.
    database: Mapped[str | None] = mapped_column(String(64))
    #: The type that may be placed here; NULL is any.
    type: Mapped[str | None] = mapped_column(String(32))
    mode: Mapped[ServerMode] = mapped_column(_enum(ServerMode))
    #: Whether it answered when it was last registered or activated.
    alive: Mapped[bool]
    created_at: Mapped[int]


class AdminSecret(Claim, Base):
    """The password of a server's admin login once it was rotated; it wins over the configured."""

    __tablename__ = "admin_secrets"
    __table_args__ = (
        Index("ux_admin_secrets_server", "backend", "server", unique=True),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    backend: Mapped[str] = mapped_column(String(32))
    server: Mapped[str] = mapped_column(String(64))
    #: The one in force; NULL is the configured one.
    secret: Mapped[Sealed | None]
    #: The one of a rotation that is not over: it may be in force already.
    pending: Mapped[Sealed | None]
    #: When ``secret`` came into force.
    rotated_at: Mapped[int | None]


class RequestKey(Base):
    """An idempotency key and the job of the request it came with."""

    __tablename__ = "request_keys"
    __table_args__ = (Index("ix_request_keys_created", "created_at"), TABLE_OPTIONS)

    #: Of the token's id and the key.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: The digest of the request's body.
    body: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[int]
    created_at: Mapped[int]


class Quota(Base):
    """A project with limits; only the process that locks the row takes a slot in it."""

    __tablename__ = "quotas"

    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: The limits that came with its token at the last creation, for operators to see.
    limits: Mapped[dict[str, int]]


class LocalToken(Base):
    """A token of an installation without a Storage API; only its digest is kept."""

    __tablename__ = "local_tokens"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str] = mapped_column(String(255))
    project_id: Mapped[str] = mapped_column(String(64))
    project_name: Mapped[str] = mapped_column(String(255))
    person_id: Mapped[str | None] = mapped_column(String(64))
    features: Mapped[list[str]]
    #: Project limits by name, such as ``sandbox.expirationSeconds``.
    limits: Mapped[dict[str, int]]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class ManageToken(Base):
    """A token of an operator; only its digest is kept."""

    __tablename__ = "manage_tokens"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class Sequence(Base):
    """Numbers given out once and never again, under ``name``; ``value`` is the last one."""

    __tablename__ = "sequences"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int]


class Setting(Base):
    """What the installation decided once, such as its code."""

    __tablename__ = "settings"
    #: The names of those with an encrypted value.
    SEALED: ClassVar[frozenset[str]] = frozenset({"authority", "lock secret"})

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
