"""P18: what a creation pays for being safe against a crash at any moment."""

import math
from itertools import count
from typing import Any

from sqlalchemy import bindparam, insert, select

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure, p50
from provisioning.access.tokens import Caller, Principal
from provisioning.backends.base import Owner
from provisioning.configuration.catalog import backend_rules
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.credentials import creation
from provisioning.credentials.lifetime import expiry
from provisioning.credentials.reading import view_of
from provisioning.installation import Installation
from provisioning.jobs.recording import slot_of
from provisioning.state.claims import Lease
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials

TYPE = "transformations"
_tokens = count(1)


def measure(bench: Bench) -> list[Figure]:
    """Percent of a creation, all variants inside this process and without HTTP.

    The unsafe variant makes the same objects by the same backend and then records the result
    in one commit. The engine's own lock, which the backend always takes, is timed by itself
    and counted as part of the cost.
    """
    installation = bench.service.installation
    safe, unsafe, engine_only, locks, cost = [], [], [], [], []
    for _ in range(bench.sizes.rounds):
        with raw.restored(bench.admin):
            times = [_create_each_way(installation) for _ in range(bench.sizes.creations)]
        lock = p50(_lock_and_release(bench) for _ in range(bench.sizes.creations))
        with_safety, without, engine = (p50(way) for way in zip(*times, strict=True))
        safe.append(with_safety)
        unsafe.append(without)
        engine_only.append(engine)
        locks.append(lock)
        cost.append((with_safety - without + lock) / with_safety * 100)
    return [
        Figure("P18", "crash safety: share of a create", "%", cost, aim=Bar(25)),
        Figure("P18", "create in this process: intent, claim, objects, outcome", "ms", safe),
        Figure("P18", "the same without: objects, then one commit", "ms", unsafe),
        Figure("P18", "the backend's create alone, no state at all", "ms", engine_only),
        Figure("P18", "the engine's lock, taken and released", "ms", locks),
    ]


def _create_each_way(installation: Installation) -> tuple[float, float, float]:
    safe, unsafe, engine_only = _new_caller(), _new_caller(), _new_caller()
    return (
        raw.timed(lambda: creation.get_or_create(installation, safe, backend_rules("mysql"), TYPE)),
        raw.timed(lambda: _create_and_record(installation, unsafe)),
        raw.timed(lambda: _create_objects(installation, engine_only.principal)),
    )


def _new_caller() -> Caller:
    token_id = f"safety-{next(_tokens)}"
    return Caller(Principal(token_id, "benchmark", "70", "Benchmark"), Secret(""))


def _create_objects(installation: Installation, owner: Principal) -> dict[str, Any]:
    """Make the objects under a claim that was never written; return the row's values."""
    backend = installation.backends["mysql"]
    number = installation.numbers.take()
    server = backend.placements(TYPE)[0].server
    names = Owner(owner.project_id, owner.token_id, owner.person_id)
    spec = backend.plan(installation.prefix, names, TYPE, number, server)
    password = generate_password()
    backend.create(spec, password, Lease(Credentials, number, 1, math.inf))
    return {
        "id": number,
        "server": server,
        "user_name": spec.user_name,
        "object_name": spec.object_name,
        "secret": installation.vault.encrypt(password),
    }


#: Built once, as the service's own statements are.
_SLOT = select(
    now_ms(), select(Credentials.id).where(Credentials.slot == bindparam("slot")).exists()
)
_COLUMNS = (
    "id", "backend", "type", "state", "slot", "project_id", "project_name", "token_id",
    "token_description", "server", "user_name", "object_name", "secret", "created_at",
    "touched_at", "expires_at", "claim_token", "attempts", "not_before",
)  # fmt: skip
_RECORD = insert(Credentials.__table__).values(  # type: ignore[arg-type]
    {name: bindparam(name) for name in _COLUMNS}
)


def _create_and_record(installation: Installation, caller: Caller) -> None:
    owner = caller.principal
    slot = slot_of(owner.token_id, "mysql", TYPE)
    with installation.database.read() as session:
        now, _ = session.execute(_SLOT, {"slot": slot}).one()
    lifetime = installation.config.lifetime("mysql", TYPE)
    touched_at = now - now % 1000
    row = Credentials(
        **_create_objects(installation, owner),
        backend="mysql",
        type=TYPE,
        state=CredentialsState.ACTIVE,
        slot=slot,
        project_id=owner.project_id,
        project_name=owner.project_name,
        token_id=owner.token_id,
        token_description=owner.token_description,
        created_at=now,
        touched_at=touched_at,
        expires_at=expiry(lifetime, touched_at, now),
        claim_token=0,
        attempts=0,
        not_before=0,
    )
    values = {name: getattr(row, name) for name in _COLUMNS}
    with installation.database.write() as session:
        session.connection().execute(_RECORD, values)
    view_of(installation, owner, row, now)


def _lock_and_release(bench: Bench) -> float:
    return raw.timed(
        lambda: raw.run(
            bench.admin, "SELECT GET_LOCK('benchmark', 0)", "SELECT RELEASE_ALL_LOCKS()"
        )
    )
