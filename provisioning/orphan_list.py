"""The orphan report as operators and their programs read it."""

from typing import Any

from provisioning.orphans import Flaw, Found, Report
from provisioning.validity import format_time


def body(report: Report) -> dict[str, list[dict[str, Any]]]:
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
            for one in report.pictures
        ],
    }


def _found(found: Found) -> dict[str, Any]:
    one = found.object
    return {
        "backend": found.backend,
        "server": one.server,
        "kind": one.kind,
        "name": one.name,
        "credentials": (one.spec.credentials_id or None) if one.spec else None,
        "created": format_time(one.created_at),
    }


def _flaw(flaw: Flaw) -> dict[str, Any]:
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
