"""What a reader may rely on; the directions of imports are checked by import-linter."""

import ast
from pathlib import Path

TREE = Path(__file__).parents[2]


def imported_packages(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_front_meets_the_workers_in_one_place() -> None:
    users = [p.name for p in (TREE / "api").rglob("*.py") if "workers" in imported_packages(p)]
    assert users == ["waiting.py"]


def test_modules_stay_readable() -> None:
    long = [
        path
        for package in ("provisioning", "api", "workers", "devstack", "snowflake_simulator")
        for path in (TREE / package).rglob("*.py")
        if len(path.read_text().splitlines()) > 450
    ]
    assert long == []
