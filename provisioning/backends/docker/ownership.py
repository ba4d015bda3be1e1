"""Which container and network are a sandbox's own, and how they are removed."""

import re
from collections.abc import Callable

from provisioning.backends.base import EngineBusy, ServerObject, Spec
from provisioning.backends.docker.engine import Container, Engine, LabelledObject, Network
from provisioning.backends.docker.images import SANDBOX_TYPES
from provisioning.backends.naming import ID_PATTERN

INSTANCE_LABEL = "provisioning.instance"
CREDENTIALS_LABEL = "provisioning.credentials"
TYPE_LABEL = "provisioning.type"


class OwnedObjects:
    """The container and the network that bear a sandbox's name and our labels.

    ``code`` is the installation's, which never changes. An object without it is not ours,
    whatever its name, and is not touched.
    """

    def __init__(self, engine: Engine, spec: Spec, code: str) -> None:
        self._engine = engine
        self._name = spec.object_name
        self.labels = {
            INSTANCE_LABEL: code,
            CREDENTIALS_LABEL: str(spec.credentials_id),
            TYPE_LABEL: spec.type,
        }

    def container(self) -> Container | None:
        found = self._engine.find_container(self._name)
        return found if found and self._is_own(found) else None

    def networks(self) -> list[Network]:
        """Return the networks: more than one after two processes have made it together."""
        return [found for found in self._engine.find_networks(self._name) if self._is_own(found)]

    def remove_container(self, check: Callable[[], None]) -> bool:
        """Remove the container and return whether there was one.

        ``check`` raises when the caller may not change anything any more. The container is
        named by its id: a successor's has another.
        """
        container = self.container()
        if container is None:
            return False
        check()
        self._engine.remove_container(container.id)
        for volume in container.volumes:
            if self._engine.has_volume(volume):
                raise EngineBusy(f"volume {volume} of {self._name} is still there")
        return True

    def remove_networks(self, check: Callable[[], None]) -> None:
        """Remove the network, once nothing of ours is in it."""
        for network in self.networks():
            check()
            self._engine.remove_network(network)

    def require_gone(self) -> None:
        """Raise ``EngineBusy`` if anything is left."""
        if self.container() or self.networks():
            raise EngineBusy(f"{self._name} is still there")

    def _is_own(self, found: Container | Network) -> bool:
        return all(found.labels.get(name) == value for name, value in self.labels.items())


def take_inventory(engine: Engine, code: str) -> list[ServerObject]:
    """Return the containers and networks of the installation with the code."""
    server = engine.config.name
    return [
        ServerObject(
            server,
            one.kind,
            one.name,
            object_name=one.name,
            spec=_spec(server, one),
            created_at=one.created_at,
        )
        for one in engine.find_labelled(INSTANCE_LABEL, code)
    ]


def _spec(server: str, one: LabelledObject) -> Spec | None:
    number, type_ = one.labels.get(CREDENTIALS_LABEL, ""), one.labels.get(TYPE_LABEL)
    if type_ not in SANDBOX_TYPES or not re.fullmatch(ID_PATTERN, number):
        return None
    # The removal of a sandbox does not need the user's name.
    return Spec(int(number), type_, server, "", one.name)
