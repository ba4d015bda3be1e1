"""In CI a skipped test is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PASSES = "def test_passes(): pass\n"
SKIPS = "import pytest\n@pytest.mark.skip(reason='no server')\ndef test_skips(): pass\n"


def run_pytest(directory: Path, content: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (directory / "test_sample.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "--rootdir", str(directory), "-c", "/dev/null"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, str(directory)],
        capture_output=True,
        text=True,
        cwd=TREE,
    )


@pytest.mark.parametrize(
    ("content", "options", "status"),
    [
        (PASSES, ["-p", "devstack.no_skips"], 0),
        (PASSES + SKIPS, [], 0),
        (PASSES + SKIPS, ["-p", "devstack.no_skips"], 1),
        (PASSES + SKIPS, ["-p", "devstack.no_skips", "-n", "2"], 1),
    ],
    ids=["nothing skipped", "without the plugin", "with the plugin", "in parallel"],
)
def test_skips_fail_the_run(content: str, options: list[str], status: int, tmp_path: Path) -> None:
    done = run_pytest(tmp_path, content, *options)
    assert done.returncode == status, done.stdout
    assert ("skipped tests are failures here" in done.stdout) == bool(status)
