"""How long a credential lives (contract 4.5, 6.3 and 11). Times are milliseconds."""

from collections.abc import Iterable

from provisioning import errors
from provisioning.access.tokens import Principal
from provisioning.configuration.catalog import BackendRules
from provisioning.configuration.config import Lifetime
from provisioning.installation import Installation
from provisioning.state.formats import SECOND


def expiry(lifetime: Lifetime, touched_at: int, created_at: int) -> int | None:
    """Return when a credential touched at ``touched_at`` ends; None is never."""
    created_at -= created_at % SECOND
    ends = [
        start + seconds * SECOND
        for start, seconds in ((touched_at, lifetime.seconds), (created_at, lifetime.maximum))
        if seconds is not None
    ]
    return min(ends, default=None)


def longest(lifetime: Lifetime) -> int | None:
    """Return the most seconds that a credential may live from its touch; None is any number."""
    bounds = (lifetime.seconds, lifetime.maximum)
    return min((seconds for seconds in bounds if seconds is not None), default=None)


def shortened(lifetime: Lifetime, ttl: int | None) -> Lifetime:
    """Return the lifetime that was asked for, as far as it is allowed; without one, the full."""
    if ttl is None:
        return lifetime
    bound = longest(lifetime)
    return Lifetime(ttl if bound is None else min(ttl, bound), lifetime.maximum)


def next_touch(now: int, touched_at: int) -> int:
    """Return the touch of an extend: now in whole seconds, and always later than the last."""
    return max(now - now % SECOND, touched_at + SECOND)


def starts_of_leads(leads: Iterable[int], touched_at: int, ends_at: int) -> list[int]:
    """Return when each lead before an end begins, the seconds of ``leads`` before it.

    A lead that is not shorter than the whole life has no beginning.
    """
    starts = (ends_at - lead * SECOND for lead in leads)
    return [start for start in starts if start > touched_at]


def reached_lead(leads: Iterable[int], touched_at: int, ends_at: int, now: int) -> int | None:
    """Return the shortest lead that has begun, in seconds; None before all of them."""
    begun = [start for start in starts_of_leads(leads, touched_at, ends_at) if start <= now]
    return (ends_at - max(begun)) // SECOND if begun else None


def can_extend(
    lifetime: Lifetime, now: int, touched_at: int, created_at: int, expires_at: int | None
) -> bool:
    """Return False exactly when a hard maximum allows no later end (contract 6.3.3)."""
    if lifetime.maximum is None or expires_at is None:
        return True
    later = expiry(lifetime, next_touch(now, touched_at), created_at)
    return later is None or later > expires_at


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
