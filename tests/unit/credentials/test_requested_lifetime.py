"""How long a caller may ask for, before it is known which server it gets."""

from pathlib import Path

import pytest

from provisioning.access.tokens import Principal
from provisioning.configuration import config
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import generate_key
from provisioning.credentials.lifetime import require_possible
from provisioning.errors import ParameterInvalid
from provisioning.installation import Installation, build_installation

SERVER = '[[mysql]]\nhost="h"\nuser="u"\npassword="p"\n'


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """Two servers that take sandboxes, one that is drained, and one for transformations."""
    file = tmp_path / "servers.toml"
    file.write_text(
        f'{SERVER}name="a"\nlifetimes=["sandbox:2h"]\ntypes=["sandbox"]\n'
        f'{SERVER}name="b"\ntypes=["sandbox"]\n'
        f'{SERVER}name="c"\nlifetimes=["sandbox:1h"]\ntakes_new=false\n'
        f'{SERVER}name="d"\nlifetimes=["transformations:none"]\ntypes=["transformations"]\n'
    )
    settings = {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "memory://",
        "ENCRYPTION_KEYS": generate_key().reveal(),
        "SERVERS_FILE": str(file),
        "POSTGRESQL_SANDBOX_MAX_LIFETIME": "1d",
    }
    return build_installation(config.load(settings))


@pytest.mark.parametrize(
    ("backend", "types", "limits", "largest"),
    [
        ("mysql", ["sandbox"], {}, 7200),
        ("mysql", ["sandbox", "transformations"], {}, 7200),
        ("mysql", ["sandbox"], {"mysql.sandbox.expirationSeconds": 9000}, 9000),
        ("mysql", ["transformations"], {}, None),
        ("postgresql", ["sandbox"], {}, 86_400),
        ("docker", ["jupyter", "rstudio"], {"docker.rstudio.expirationSeconds": 60}, 60),
    ],
)
def test_what_all_servers_allow_that_it_may_get_is_allowed(
    installation: Installation,
    backend: str,
    types: list[str],
    limits: dict[str, int],
    largest: int | None,
) -> None:
    owner, rules = Principal("1", "", "70", "", limits=limits), BACKENDS[backend]
    require_possible(installation, owner, rules, types, largest or 2**31 - 1)
    require_possible(installation, owner, rules, types, None)
    if largest is not None:
        with pytest.raises(ParameterInvalid, match=f"'ttl' is invalid: at most {largest} seconds"):
            require_possible(installation, owner, rules, types, largest + 1)
