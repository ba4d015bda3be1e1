"""A pytest plugin for CI, loaded with `-p devstack.no_skips`: a skipped test is a failure.

A developer's machine may lack a server and skip its tests; CI has to have run them all.
"""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that passed but skipped something."""
    if _skipped(session.config) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why a run without a failed test is red."""
    count = _skipped(config)
    if count:
        terminalreporter.section("skipped tests are failures here", red=True)
        terminalreporter.line(f"{count} skipped; see the reasons above")


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", [])) if reporter else 0
