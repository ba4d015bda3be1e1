"""The walk that docs/architecture.md takes through a creation is the one that the code takes."""

import re
import traceback
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pymysql.cursors import Cursor

from api.app import create_app
from tests.contract.conftest import ServiceMaker

TREE = Path(__file__).parents[2]


def modules_on_the_stack() -> list[str]:
    """Return the service's modules from the route to here, each as often as it is entered."""
    files = [Path(frame.filename) for frame in traceback.extract_stack()]
    found = [file.relative_to(TREE).as_posix() for file in files if file.is_relative_to(TREE)]
    entered = [module for module, _ in groupby(found)]
    return [module for module in entered if module.startswith(("api/", "provisioning/"))]


def test_the_documented_walk_is_the_one_to_the_sql(
    make_service: ServiceMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[list[str]] = []
    execute = Cursor.execute

    def note(cursor: Any, sql: Any, values: Any = None) -> int:
        if sql.startswith("CREATE DATABASE"):
            walks.append(modules_on_the_stack())
        return execute(cursor, sql, values)

    with make_service({}, fronts=0) as service:
        front = create_app(service.installation).test_client()
        monkeypatch.setattr(Cursor, "execute", note)
        headers = {"X-StorageApi-Token": service.token()}
        assert front.post("/provisioning/mysql", headers=headers).status_code == 201
    text = (TREE / "docs/architecture.md").read_text().partition("## A walk:")[2]
    documented = re.findall(r"^\| \d \| `([^`]+)`", text, re.MULTILINE)
    assert walks == [documented]
    assert len(documented) <= 6
    assert len(set(documented)) == len(documented)
