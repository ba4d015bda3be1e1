"""What operators see of credentials, and do to them on behalf of their owners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from provisioning import errors
from provisioning.access.management_tokens import Operator
from provisioning.access.tokens import Caller, Principal
from provisioning.configuration.catalog import backend_rules
from provisioning.configuration.secrets import Secret
from provisioning.credentials import changes
from provisioning.credentials.protection import protect
from provisioning.installation import Installation
from provisioning.state.database import Database, now_ms, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.formats import read_id
from provisioning.state.models import Credentials, Job, LocalToken


def list_credentials(
    database: Database, limit: int, expiring_within: int | None = None, **wanted: str | None
) -> Sequence[Credentials]:
    """Return credentials whose columns have the values that are given, the newest first.

    Without a state, those that are not gone. With ``expiring_within``, in seconds, only active
    ones that end by then, the first to end first.
    """
    query = select(Credentials).limit(limit)
    if expiring_within is not None:
        query = query.where(
            Credentials.state == CredentialsState.ACTIVE,
            Credentials.expires_at <= now_ms() + expiring_within * 1000,
        ).order_by(Credentials.expires_at)
    query = query.order_by(Credentials.id.desc())
    if wanted.get("state") is None:
        query = query.where(Credentials.state != CredentialsState.DROPPED)
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Credentials, column) == value)
    with database.read() as session:
        return session.scalars(query).all()


def list_removals(database: Database, limit: int) -> Sequence[tuple[Credentials, str | None]]:
    """Return credentials that are being removed, the oldest first, each with what is in the way.

    The reason is that of the last try, None before one failed. A removal goes on until it is done;
    once ``access_ended_at`` is set, nobody can use what is left.
    """
    query = (
        select(Credentials, func.coalesce(Credentials.failure, Job.failure))
        .outerjoin(Job, Job.id == Credentials.job_id)
        .where(Credentials.state == CredentialsState.DROPPING)
        .order_by(Credentials.id)
        .limit(limit)
    )
    with database.read() as session:
        return [(row, reason) for row, reason in session.execute(query)]


def get_credentials(database: Database, credentials_id: int) -> Credentials:
    """Return a credential of any project, also one that is gone; raise ``CredentialsNotFound``."""
    with database.read() as session:
        row = session.get(Credentials, credentials_id)
    if row is None:
        raise errors.CredentialsNotFound
    return row


def extend_credentials(
    installation: Installation, operator: Operator, credentials_id: int
) -> changes.Extension:
    """Start the lifetime anew; raise what `changes.extend` does."""
    row = get_credentials(installation.database, credentials_id)
    caller = _on_behalf_of_owner(installation, operator, row)
    return changes.extend(installation, caller, row.backend, str(row.id))


def protect_credentials(
    installation: Installation, operator: Operator, credentials_id: int, seconds: int | None
) -> Credentials:
    """Keep one for so many seconds from now, whatever its expiration; None ends that.

    Raises what `protection.protect` does.
    """
    until = None
    if seconds is not None:
        with installation.database.read() as session:
            until = read_clock(session) + seconds * 1000
    return protect(installation, credentials_id, until, operator.author)


def drop_credentials(installation: Installation, operator: Operator, credentials_id: int) -> Job:
    """Record a delete job, to be run by a worker; raise what `changes.request_drop` does."""
    row = get_credentials(installation.database, credentials_id)
    caller = _on_behalf_of_owner(installation, operator, row)
    return changes.request_drop(installation, caller, row.backend, str(row.id))


def kill_sessions(installation: Installation, operator: Operator, credentials_id: int) -> Job:
    """Record a kill job, to be run by a worker; raise what `changes.request_kill` does."""
    row = get_credentials(installation.database, credentials_id)
    caller = _on_behalf_of_owner(installation, operator, row)
    return changes.request_kill(installation, caller, row.backend, str(row.id))


def reset_password(
    installation: Installation, operator: Operator, credentials_id: int, *, end_sessions: bool
) -> None:
    """Give one a new password, which its owner reads; raise what `changes.reset_password` does."""
    row = get_credentials(installation.database, credentials_id)
    if backend_rules(row.backend).asynchronous:
        raise errors.BackendAsyncOnly(row.backend)
    caller = _on_behalf_of_owner(installation, operator, row)
    changes.reset_password(
        installation, caller, row.backend, str(row.id), end_sessions=end_sessions
    )


def _on_behalf_of_owner(installation: Installation, operator: Operator, row: Credentials) -> Caller:
    """Return a caller with the owner's rights; events name the operator."""
    owner = Principal(
        token_id=row.token_id,
        token_description=row.token_description,
        project_id=row.project_id,
        project_name=row.project_name,
        limits=_limits_of(installation, row),
    )
    return Caller(owner, Secret(""), operator.run_id, operator.author)


def _limits_of(installation: Installation, row: Credentials) -> Mapping[str, int]:
    """Return the limits of a local token; those of the Storage API only it can tell."""
    number = read_id(row.token_id)
    if installation.storage is not None or number is None:
        return {}
    with installation.database.read() as session:
        token = session.get(LocalToken, number)
    return token.limits if token and token.project_id == row.project_id else {}


@dataclass
class ServerCounts:
    """The credentials of one server that are not gone."""

    #: These count for `max_credentials`.
    live: int = 0
    #: Being removed.
    leaving: int = 0


def count_credentials(database: Database) -> dict[tuple[str, str], ServerCounts]:
    """Return how many credentials there are, by backend and server."""
    query = (
        select(Credentials.backend, Credentials.server, Credentials.state, func.count())
        .where(Credentials.state != CredentialsState.DROPPED)
        .group_by(Credentials.backend, Credentials.server, Credentials.state)
    )
    counts: dict[tuple[str, str], ServerCounts] = {}
    with database.read() as session:
        for backend, server, state, count in session.execute(query):
            found = counts.setdefault((backend, server), ServerCounts())
            if state is CredentialsState.DROPPING:
                found.leaving += count
            else:
                found.live += count
    return counts
