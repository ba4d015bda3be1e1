"""The limits of what a project, and each of its tokens, may have at once: names and values.

They come with a project's token beside its other limits. A name is ``provisioning.``, then
``token.`` if it holds for each token, then what is limited, then ``.soft`` if it only warns:
``provisioning.credentials``, ``provisioning.token.memoryMb.soft``. ``QUOTAS`` has, without the
first part, those of projects without limits of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from provisioning.configuration.catalog import BACKENDS

PREFIX = "provisioning."
PROJECT, TOKEN = "project", "token"

#: What is limited, in words. A backend's own limit of docker is that of containers.
WORDS: dict[str, str] = {
    "credentials": "live credentials",
    **{
        f"credentials.{rules.name}": f"live {rules.name} credentials"
        for rules in BACKENDS.values()
        if not rules.asynchronous
    },
    "containers": "live containers",
    "memoryMb": "MB of containers' memory",
}


@dataclass(frozen=True)
class Limit:
    """One kind of limit: whose, and of what."""

    scope: str
    what: str
    soft: bool

    @property
    def name(self) -> str:
        scope = "token." if self.scope == TOKEN else ""
        return f"{PREFIX}{scope}{self.what}{'.soft' if self.soft else ''}"


#: Those that refuse come first: where one does, nobody is warned.
LIMITS: dict[str, Limit] = {
    limit.name: limit
    for soft in (False, True)
    for scope in (PROJECT, TOKEN)
    for limit in (Limit(scope, what, soft) for what in WORDS)
}


class Defaults(dict[str, int]):
    """The limits of projects without their own, by name; as text they are as configured."""

    def __str__(self) -> str:
        return ",".join(f"{name.removeprefix(PREFIX)}={value}" for name, value in self.items())


def read_defaults(text: str) -> Defaults:
    """Return the limits of a list such as ``credentials=100,token.containers=2``; 0 is none."""
    found = Defaults()
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = map(str.strip, part.partition("="))
        if PREFIX + name not in LIMITS:
            known = ", ".join(limit.removeprefix(PREFIX) for limit in LIMITS)
            raise ValueError(f"'{name}' is no limit; there are {known}")
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"write {name}=10")
        if int(value):
            found[PREFIX + name] = int(value)
    return found


def limits_in_force(defaults: Mapping[str, int], told: Mapping[str, int]) -> dict[str, int]:
    """Return the limits of a project by name: what its token tells, else the default."""
    return {**defaults, **told_limits(told)}


def told_limits(told: Mapping[str, int]) -> dict[str, int]:
    """Return those of a project's limits that are ours."""
    return {name: value for name, value in told.items() if name in LIMITS}
