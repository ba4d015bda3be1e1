"""What a Docker engine has that bears the installation's label.

Anonymous volumes bear none: they go with their container.
"""

import re

from provisioning.backends.base import ServerObject, Spec
from provisioning.backends.docker.engine import Engine, Labelled
from provisioning.backends.docker.kinds import KINDS
from provisioning.backends.docker.owned import CREDENTIALS_LABEL, INSTANCE_LABEL, TYPE_LABEL
from provisioning.naming import ID_PATTERN


def take_inventory(engine: Engine, code: str) -> list[ServerObject]:
    """Return the containers and networks of the installation with the code."""
    server = engine.config.name
    return [
        ServerObject(server, one.kind, one.name, None, one.name, _spec(server, one), one.created_at)
        for one in engine.find_labelled(INSTANCE_LABEL, code)
    ]


def _spec(server: str, one: Labelled) -> Spec | None:
    number, type_ = one.labels.get(CREDENTIALS_LABEL, ""), one.labels.get(TYPE_LABEL)
    if type_ not in KINDS or not re.fullmatch(ID_PATTERN, number):
        return None
    # Nobody is asked for the user's name when a sandbox is removed.
    return Spec(int(number), type_, server, "", one.name)
