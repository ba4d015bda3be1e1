"""Fixtures of what goes into a sandbox."""

from pathlib import Path

import pytest

from tests.sandbox.stand_in import Loading, StandInStorage


@pytest.fixture
def storage() -> StandInStorage:
    return StandInStorage()


@pytest.fixture
def load(storage: StandInStorage, tmp_path: Path) -> Loading:
    return Loading(storage, tmp_path)
