"""The lifetime that a caller asks for: ``ttl``, in seconds from the touch."""

from collections.abc import Iterable

from provisioning import errors
from provisioning.catalog import BackendRules
from provisioning.config import Lifetime
from provisioning.installation import Installation
from provisioning.tokens import Principal
from provisioning.validity import longest

PARAMETER = "ttl"


def require_possible(
    installation: Installation,
    principal: Principal,
    rules: BackendRules,
    types: Iterable[str],
    ttl: int | None,
) -> None:
    """Raise ``ParameterInvalid`` unless a new credential of each of the types may live so long.

    Its server is not chosen yet, so the lifetime has to be allowed on all that may be.
    """
    if ttl is None:
        return
    config, backend = installation.config, installation.backends.get(rules.name)
    lifetimes = []
    for type_ in types:
        servers: list[str | None] = [
            place.server for place in (backend.placements(type_) if backend else ())
        ]
        for server in servers or [None]:
            lifetimes.append(config.lifetime(rules.name, type_, principal.limits, server))
    require_allowed(lifetimes, ttl)


def require_allowed(lifetimes: Iterable[Lifetime], ttl: int | None) -> None:
    """Raise ``ParameterInvalid``, which names the largest value, unless all allow the ``ttl``."""
    bounds = [bound for bound in map(longest, lifetimes) if bound is not None]
    if ttl is not None and bounds and ttl > min(bounds):
        raise errors.ParameterInvalid(PARAMETER, f"at most {min(bounds)} seconds are allowed")
