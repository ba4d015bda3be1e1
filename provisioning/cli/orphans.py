"""The operators' commands about the two sides: orphans, and the observation after a restore."""

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import click
from rich.table import Table

from provisioning.access.tokens import Principal
from provisioning.backends.base import EngineError
from provisioning.cli.output import open_database, print_table
from provisioning.configuration import config as configuration
from provisioning.credentials.observation import current_observation
from provisioning.installation import Installation, build_installation
from provisioning.orphans import adoption, restore
from provisioning.orphans.comparison import build_report
from provisioning.orphans.repair import RepairOutcome, removable, repair
from provisioning.orphans.report import OrphanReport, report_body
from provisioning.state.formats import format_time


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--fix", is_flag=True, help="Remove orphans, close ghosts, free what is stuck.")
@click.option("--dry-run", is_flag=True, help="Say what --fix would do.")
def orphans(as_json: bool, fix: bool, dry_run: bool) -> None:
    """Compare what servers have with what the state says; exit with 1 if they do not agree."""
    installation = build_installation(configuration.load())
    if fix and current_observation(installation.database):
        raise click.ClickException(
            "the service observes: read the report, then run `provisioning observe off`"
        )
    # What is logged meanwhile is no part of the answer.
    with redirect_stdout(sys.stderr):
        report = build_report(installation)
        outcome = repair(installation, report) if fix and not dry_run else None
    if as_json:
        done = {} if outcome is None else {"outcome": _outcome_body(outcome)}
        click.echo(json.dumps({**report_body(report), **done}, ensure_ascii=False))
    else:
        _print_report(report)
        for line in _plan(installation, report) if dry_run else _told(outcome):
            click.echo(line)
    left = len(report.orphans) - len(removable(installation, report))
    mended = outcome is not None and not (outcome.waiting or report.unasked or left)
    sys.exit(0 if report.clean or mended else 1)


def _print_report(report: OrphanReport) -> None:
    listed = report_body(report)
    for kind, entries in listed.items():
        if kind == "servers" or not entries:
            continue
        click.echo(f"{kind}:")
        columns = list(entries[0])
        table = Table(*columns)
        for entry in entries:
            table.add_row(*("" if entry[name] is None else str(entry[name]) for name in columns))
        print_table(table)
    table = Table("backend", "server", "objects", "not asked, because")
    for entry in listed["servers"]:
        table.add_row(*("" if value is None else str(value) for value in entry.values()))
    print_table(table)
    click.echo(", ".join(f"{name}: {count}" for name, count in report.counts().items()))


def _plan(installation: Installation, report: OrphanReport) -> Iterator[str]:
    """Return what --fix would do, a line each."""
    for one in removable(installation, report):
        yield f"would remove {one.backend} {one.object.server}: {one.object.kind} {one.object.name}"
    for ghost in report.ghosts:
        yield f"would close credentials {ghost.row.id} and remove what is left of them"
    for flaw in report.stuck:
        yield f"would try credentials {flaw.row.id} again"
    for lost in report.logins:
        if not lost.used:
            yield f"would forget the login {lost.login.user_name} of server {lost.login.server}"
    if report.orphans and not installation.prefix:
        yield "would leave the orphans: without NAME_PREFIX nothing tells them from others'"


def _told(outcome: RepairOutcome | None) -> Iterator[str]:
    if outcome is None:
        return
    yield f"removed or closed: {outcome.removed}"
    for number, failure in outcome.waiting.items():
        yield f"credentials {number}: not yet, the sweep goes on: {failure}"


def _outcome_body(outcome: RepairOutcome) -> dict[str, Any]:
    waiting = [{"credentials": number, "failure": text} for number, text in outcome.waiting.items()]
    return {"removed": outcome.removed, "waiting": waiting}


@click.command()
@click.argument("credentials_id", type=int)
@click.option("--type", "type_", required=True, help="Of the credential that it becomes.")
@click.option("--project", required=True, help="The new owner's project id.")
@click.option("--token", required=True, help="The id of the new owner's token.")
def adopt(credentials_id: int, type_: str, project: str, token: str) -> None:
    """Give an orphan, by the number in its name, to a token; its data stays.

    It gets a new password and the lifetime of a new credential.
    """
    installation = build_installation(configuration.load())
    owner = Principal(token, "", project, "")
    with redirect_stdout(sys.stderr):
        report = build_report(installation)
        try:
            row = adoption.adopt(installation, report, credentials_id, owner, type_)
        except EngineError as problem:
            raise click.ClickException(str(problem.args[0])) from None
    click.echo(f"credentials {row.id} of {row.backend} are token {token}'s")


# Observation ----------------------------------------------------------------------------


@click.group("observe")
def observe_group() -> None:
    """Removing nothing until told, as after a restore of the state."""


@observe_group.command("on")
@click.option("--why", default="an operator said so", show_default=True)
def begin(why: str) -> None:
    """Remove nothing from now on; run this on a restored state before the service starts."""
    restore.begin_observation(build_installation(configuration.load()), why)
    click.echo("the service observes")


@observe_group.command("off")
def end() -> None:
    """Act again: what has expired is removed, and what was held goes on."""
    installation = build_installation(configuration.load())
    try:
        restore.end_observation(installation)
    except EngineError as problem:
        raise click.ClickException(f"not yet: {problem.args[0]}") from None
    click.echo("the service acts")


@observe_group.command("status")
def status() -> None:
    """Tell whether the service observes, since when and why."""
    observation = current_observation(open_database())
    if observation is None:
        click.echo("the service acts")
    else:
        click.echo(f"observes since {format_time(observation.since)}: {observation.why}")
