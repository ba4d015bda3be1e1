"""Fixtures of what goes into a sandbox."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from provisioning.access.tokens import LocalTokens
from provisioning.backends.base import Backend
from provisioning.configuration import config
from provisioning.configuration.secrets import generate_key
from provisioning.installation import Installation, build_installation
from provisioning.state.bootstrap import prepare_state
from tests.sandbox.receiver import Receiver
from tests.sandbox.stand_in import Loading, StandInStorage
from tests.sandbox.stand_in_engine import StandInEngine


@pytest.fixture
def storage() -> StandInStorage:
    return StandInStorage()


@pytest.fixture
def load(storage: StandInStorage, tmp_path: Path) -> Loading:
    return Loading(storage, tmp_path)


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What `installation` is configured with; tests may change it before."""
    return {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "OFFERED_BACKENDS": "mysql,docker",
        "ENCRYPTION_KEYS": generate_key().reveal(),
    }


@pytest.fixture
def installation(engine: StandInEngine, environment: dict[str, str]) -> Iterator[Installation]:
    """An installation whose sandboxes are made by the stand-in."""
    installation = build_installation(config.load(environment))
    prepare_state(installation.database)
    installation.backends["docker"] = cast(Backend, engine)
    yield installation
    installation.close()


@pytest.fixture
def front(installation: Installation) -> FlaskClient:
    """A caller with a token of its own; there is no broker, tests run the jobs themselves."""
    return caller_of(installation)


def caller_of(installation: Installation) -> FlaskClient:
    _, token = LocalTokens(installation.database).create(
        project_id="70", project_name="P", person_id=None, description="", features=[]
    )
    client = create_app(installation).test_client()
    client.environ_base["HTTP_X_STORAGEAPI_TOKEN"] = token.reveal()
    return client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
