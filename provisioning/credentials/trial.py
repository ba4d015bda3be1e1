"""Makes a credential on each server and drops it, to see what a look cannot tell.

Its row is one to be dropped from the start. So if this process dies, the sweep removes what was
made, and nobody ever gets it.
"""

from collections.abc import Iterator
from typing import cast

from provisioning.access.management_tokens import Operator
from provisioning.access.tokens import Principal
from provisioning.backends.base import Backend, EngineError, Health, LoginBackend, NameInUse
from provisioning.configuration.catalog import backend_rules
from provisioning.credentials.creation import NewCredentials, new_row
from provisioning.credentials.reconcile import close_dropped, finish_drop
from provisioning.credentials.specs import complete_spec_of
from provisioning.installation import Installation
from provisioning.state.claims import Lease, take
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials

#: No project has it; names want a number.
PROJECT = "0"


def check_deeply(installation: Installation, operator: Operator) -> Iterator[tuple[str, Health]]:
    """Yield each server's backend and condition, found by making a credential there.

    A sandbox takes long to make: engines of containers are looked at only.
    """
    for name, backend in installation.backends.items():
        for health in backend.check():
            if health.alive and not backend_rules(name).asynchronous:
                health = _try(installation, operator, backend, health)
            yield name, health


def _try(
    installation: Installation, operator: Operator, backend: Backend, health: Health
) -> Health:
    row, lease = _record(installation, operator, backend, health.server)
    failpoint("trial.recorded")
    problem = _make(installation, backend, row, lease)
    failpoint("trial.made")
    left = _remove(installation, row, lease, problem)
    if problem is not None:
        why = cast(LoginBackend, backend).explain(health.server, problem)
        return Health(health.server, False, why)
    if left is not None:
        return Health(health.server, False, f"a credential was made and cannot be dropped: {left}")
    return Health(health.server, True, f"{health.message}; made and dropped a credential")


def _record(
    installation: Installation, operator: Operator, backend: Backend, server: str
) -> tuple[Credentials, Lease]:
    """Commit the row of a credential that nobody gets, claimed by this process."""
    owner = Principal(operator.author, operator.description, PROJECT, "")
    wanted = NewCredentials(owner, backend, backend_rules(backend.name).default_type)
    with installation.database.read() as session:
        now = read_clock(session)
    row = new_row(installation, wanted, server, now)
    row.state, row.slot, row.attend_at = CredentialsState.DROPPING, None, None
    # The claim is the row's first, so that what has its names is not taken for ours.
    row.claim_token, row.claim_owner = 0, None
    with installation.database.write() as session:
        session.add(row)
        session.flush()
        lease = take(session, Credentials, row.id, installation.config.claim_seconds)
    assert lease is not None
    return row, lease


def _make(
    installation: Installation, backend: Backend, row: Credentials, lease: Lease
) -> EngineError | None:
    """Make the credential; return why that failed."""
    spec = complete_spec_of(installation, row)
    try:
        with installation.keeper.keep(lease):
            backend.create(spec, installation.vault.decrypt(row.secret), lease)
    except EngineError as problem:
        return problem
    return None


def _remove(
    installation: Installation, row: Credentials, lease: Lease, problem: EngineError | None
) -> str | None:
    """Remove what was made; return why something is left, for the sweep."""
    if isinstance(problem, NameInUse):
        with installation.database.write() as session:
            close_dropped(session, row, lease)
        return None
    if finish_drop(installation, row, lease):
        return None
    with installation.database.read() as session:
        return session.get_one(Credentials, row.id).failure
