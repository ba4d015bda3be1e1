from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from provisioning.backends.base import ServerObject, Spec
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Login


@dataclass(frozen=True)
class ServerInventory:
    """What one server has; ``failure`` says why it could not be asked."""

    backend: str
    server: str
    objects: Sequence[ServerObject] = ()
    failure: str | None = None


@dataclass(frozen=True)
class UnnamedObject:
    """An object that no row names, and why it is left alone, if it is."""

    backend: str
    object: ServerObject
    why: str = ""

    @property
    def spec(self) -> Spec | None:
        return self.object.spec


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row."""

    row: Credentials
    why: str


@dataclass(frozen=True)
class LostLogin:
    """A shared login's row whose login is missing, or that no credential uses."""

    login: Login
    why: str
    used: bool


@dataclass
class OrphanReport:
    """What the two sides do not agree on."""

    inventories: list[ServerInventory]
    #: Objects of ours, by their form, that no row names.
    orphans: list[UnnamedObject] = field(default_factory=list)
    #: Objects with our mark that are not ours by their form: nobody removes them.
    unknown: list[UnnamedObject] = field(default_factory=list)
    #: Active rows that lack a part on their server.
    ghosts: list[RowProblem] = field(default_factory=list)
    #: Rows that are neither done nor about to be.
    stuck: list[RowProblem] = field(default_factory=list)
    logins: list[LostLogin] = field(default_factory=list)

    @property
    def unasked(self) -> list[ServerInventory]:
        return [inventory for inventory in self.inventories if inventory.failure]

    def counts(self) -> dict[str, int]:
        """Return how many there are of each."""
        names = ("orphans", "unknown", "ghosts", "stuck", "logins", "unasked")
        return {name: len(getattr(self, name)) for name in names}

    @property
    def clean(self) -> bool:
        """Whether there is nothing to repair, and every server could be asked."""
        return not any(count for name, count in self.counts().items() if name != "unknown")


def report_body(report: OrphanReport) -> dict[str, list[dict[str, Any]]]:
    """Return the report as JSON has it."""
    return {
        "orphans": [_found(one) for one in report.orphans],
        "unknown": [_found(one) | {"why": one.why} for one in report.unknown],
        "ghosts": [_flaw(one) for one in report.ghosts],
        "stuck": [_flaw(one) for one in report.stuck],
        "logins": [
            {"server": one.login.server, "login": one.login.user_name, "why": one.why}
            for one in report.logins
        ],
        "servers": [
            {
                "backend": one.backend,
                "server": one.server,
                "objects": None if one.failure else len(one.objects),
                "failure": one.failure,
            }
            for one in report.inventories
        ],
    }


def _found(found: UnnamedObject) -> dict[str, Any]:
    one = found.object
    return {
        "backend": found.backend,
        "server": one.server,
        "kind": one.kind,
        "name": one.name,
        "credentials": (one.spec.credentials_id or None) if one.spec else None,
        "created": format_time(one.created_at),
    }


def _flaw(flaw: RowProblem) -> dict[str, Any]:
    row = flaw.row
    return {
        "credentials": row.id,
        "backend": row.backend,
        "server": row.server,
        "type": row.type,
        "project": row.project_id,
        "state": str(row.state),
        "why": flaw.why,
    }
