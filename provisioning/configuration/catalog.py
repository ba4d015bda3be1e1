"""Which backends and types exist (contract section 4). The table holds for backends without
a server too: those are known, and answer 404 on reads and 503 on creation (contract 5.6)."""

from dataclasses import dataclass, field

from provisioning import errors

DAY = 86_400


@dataclass(frozen=True)
class BackendRules:
    """What the contract fixes about one backend, whether or not a server is configured."""

    name: str
    types: tuple[str, ...]
    #: The type a request without one means; it need not be an allowed type (docker).
    default_type: str
    #: Creation, deletion and kill go through /provisioning/async only.
    asynchronous: bool
    #: Seconds a credential lives from its touch, by type; ``None`` lives until dropped.
    lifetimes: dict[str, int | None]
    #: Longest statement in seconds, by type, where the contract sets one.
    statement_seconds: dict[str, int] = field(default_factory=dict)
    #: Simultaneous connections of a login where a server must not be left to one of them.
    connections: int = 0
    #: The key of the project's flags that refuses the backend when present and false.
    project_flag: str | None = None
    #: The project's limit that sets the lifetime of all types in place of the configuration.
    lifetime_limit: str | None = None
    #: A project feature that allows the backend although the flag refuses it.
    project_feature: str | None = None

    def lifetime_limits(self, type_: str) -> tuple[str, ...]:
        """Return the project's limits that set a type's lifetime in seconds, the first first."""
        own = f"{self.name}.{type_}.expirationSeconds"
        return (own, self.lifetime_limit) if self.lifetime_limit else (own,)


WORKSPACE_TYPES = ("transformations", "sandbox", "writer", "luckyguess")
WORKSPACE_LIFETIMES = {
    "transformations": 7 * DAY,
    "sandbox": 14 * DAY,
    "writer": None,
    "luckyguess": None,
}

BACKENDS: dict[str, BackendRules] = {
    rules.name: rules
    for rules in (
        BackendRules(
            name="mysql",
            types=("transformations", "sandbox"),
            default_type="transformations",
            asynchronous=False,
            lifetimes={"transformations": 7 * DAY, "sandbox": 14 * DAY},
            connections=20,
            project_flag="hasMysql",
            project_feature="transformation-mysql",
        ),
        BackendRules(
            name="snowflake",
            types=WORKSPACE_TYPES,
            default_type="transformations",
            asynchronous=False,
            lifetimes=WORKSPACE_LIFETIMES,
            statement_seconds={
                "transformations": 900,
                "sandbox": 900,
                "writer": 60,
                "luckyguess": 900,
            },
            project_flag="hasSnowflake",
        ),
        BackendRules(
            name="redshift-workspace",
            types=WORKSPACE_TYPES,
            default_type="transformations",
            asynchronous=False,
            lifetimes=WORKSPACE_LIFETIMES,
            connections=20,
            project_flag="hasRedshift",
        ),
        # Not in the published description: PostgreSQL instead of Redshift.
        BackendRules(
            name="postgresql",
            types=WORKSPACE_TYPES,
            default_type="transformations",
            asynchronous=False,
            lifetimes=WORKSPACE_LIFETIMES,
            connections=20,
        ),
        BackendRules(
            name="docker",
            types=("jupyter", "rstudio"),
            default_type="transformations",
            asynchronous=True,
            lifetimes={"jupyter": 5 * DAY, "rstudio": 5 * DAY},
            lifetime_limit="sandbox.expirationSeconds",
        ),
    )
}


def backend_rules(name: str) -> BackendRules:
    """Return the rules of backend ``name``; raise ``BackendUnknown`` (contract 3, rule 1)."""
    try:
        return BACKENDS[name]
    except KeyError:
        raise errors.BackendUnknown(name) from None


def sharing_workers(name: str) -> frozenset[str]:
    """Return the backends whose jobs the same workers take: what takes long has its own."""
    rules = BACKENDS.get(name)
    if rules is not None and rules.asynchronous:
        return frozenset({name})
    return frozenset(other.name for other in BACKENDS.values() if not other.asynchronous)


def worker_groups() -> set[frozenset[str]]:
    """Return the backends by the workers that take their jobs."""
    return {sharing_workers(name) for name in BACKENDS}


def require_type(rules: BackendRules, type_: str) -> None:
    """Raise ``TypeInvalid`` unless ``type_`` is a type of the backend, case-sensitively."""
    if type_ not in rules.types:
        raise errors.TypeInvalid(type_, rules.name, rules.types)
