"""Objects without a row, rows without their objects, and what only looks like ours."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select, update

from devstack.valkey import Valkey
from provisioning.access.management_tokens import ManageTokens
from provisioning.access.tokens import Caller as Principal
from provisioning.cli.main import cli
from provisioning.configuration.catalog import BACKENDS as RULES
from provisioning.configuration.secrets import Secret
from provisioning.credentials import creation
from provisioning.errors import CredentialsNotFound
from provisioning.orphans import comparison
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Event, Login
from tests.faults.callers import Caller, Ledger
from tests.faults.conftest import BACKENDS
from tests.faults.engines.base import Engine, Foreign
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, wait_dropped, wait_swept
from tests.faults.stack import FaultyService

pytestmark = pytest.mark.fault(row="F21")

#: Orphans and ghosts of each backend: twenty of either in all.
EACH = 5


def run(service: FaultyService, *arguments: str) -> tuple[int, str]:
    """Run a command as the service's operator; return its exit code and output."""
    result = CliRunner().invoke(cli, arguments, env={**service.environment, "COLUMNS": "200"})
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.exit_code, result.stdout + result.stderr


def report(service: FaultyService, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["orphans", "--json", *options], env=service.environment)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def lose_row(service: FaultyService, number: int, *, closed: bool) -> None:
    """Let the state forget a credential, wholly or as if it had been dropped."""
    chosen = Credentials.id == number
    with service.installation.database.write() as session:
        if closed:
            values = {"state": CredentialsState.DROPPED, "slot": None, "login_id": None}
            session.execute(update(Credentials).where(chosen).values(**values))
        else:
            session.execute(delete(Credentials).where(chosen))
        used = select(Credentials.login_id).where(Credentials.login_id.is_not(None))
        session.execute(delete(Login).where(Login.id.not_in(used)))


@pytest.fixture
def planted(
    mixed_service: FaultyService, engines: dict[str, Engine]
) -> dict[str, list[dict[str, Any]]]:
    """Twenty credentials whose rows are lost, and twenty that lack a part, on four backends."""
    # Before the first sweep, objects that no row has named are a sign of a lost state.
    wait_swept(mixed_service)
    found: dict[str, list[dict[str, Any]]] = {"orphans": [], "ghosts": []}
    for backend, engine in engines.items():
        for position in range(EACH):
            type_ = engine.types[position % len(engine.types)]
            lost, broken = (
                Caller(mixed_service, Ledger(), backend=backend).create(type_) for _ in range(2)
            )
            lose_row(mixed_service, int(lost["id"]), closed=position % 2 == 1)
            engine.remove(broken["credentials"], engine.parts[position % len(engine.parts)])
            found["orphans"].append(lost)
            found["ghosts"].append(broken)
    return found


def test_planted_orphans_and_ghosts_are_reported_and_mended(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    planted: dict[str, list[dict[str, Any]]],
) -> None:
    found = report(mixed_service)
    named = {entry["name"] for entry in found["orphans"]}
    for body in planted["orphans"]:
        names = body["credentials"]
        thing = names.get("schema") or names["db"]
        assert any(name.endswith(thing) for name in named)
        assert names["user"] in named
    ghosts = {entry["credentials"] for entry in found["ghosts"]}
    assert ghosts == {int(body["id"]) for body in planted["ghosts"]}
    assert not found["unknown"] and not found["stuck"]
    assert all(server["failure"] is None for server in found["servers"])

    code, said = run(mixed_service, "orphans", "--fix", "--dry-run")
    assert code == 1
    assert said.count("would close credentials") == len(ghosts)
    assert said.count("would remove") == len(found["orphans"])
    assert report(mixed_service)["orphans"] == found["orphans"]

    code, said = run(mixed_service, "orphans", "--fix")
    assert code == 0, said
    assert run(mixed_service, "orphans")[0] == 0
    mixed_oracle.assert_clean()
    with mixed_service.installation.database.read() as session:
        actions = select(Event.action).where(Event.credentials_id.in_(ghosts))
        told = list(session.scalars(actions))
    assert told.count("credentials.vanished") == told.count("credentials.dropped") == len(ghosts)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_orphan_is_adopted_with_what_is_in_it(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    engines: dict[str, Engine],
    ledger: Ledger,
    backend: str,
) -> None:
    lost = Caller(mixed_service, Ledger(), backend=backend).create("transformations")
    with closing(engines[backend].connect(lost["credentials"])) as connection:
        connection.cursor().execute("CREATE TABLE kept (a INT)")
    lose_row(mixed_service, int(lost["id"]), closed=backend == "mysql")
    owner = Caller(mixed_service, ledger, backend=backend)
    token = mixed_service.installation.tokens.verify(Secret(owner.token)).token_id
    whose = ("--type", "transformations", "--project", "70", "--token", token)
    code, said = run(mixed_service, "adopt", lost["id"], *whose)
    assert code == 0, said
    body = owner.create("transformations")
    assert body["id"] == lost["id"]
    assert body["credentials"]["password"] != lost["credentials"]["password"]
    with pytest.raises(engines[backend].error):
        engines[backend].try_login(lost["credentials"])
    with closing(engines[backend].connect(body["credentials"])) as connection:
        connection.cursor().execute("SELECT a FROM kept")
    with pytest.raises(CredentialsNotFound):
        run(mixed_service, "adopt", lost["id"], *whose)
    mixed_oracle.assert_clean()


# What is not ours -----------------------------------------------------------------------


@contextmanager
def standing(engines: dict[str, Engine], prefixes: list[str], number: Any) -> Iterator[list[Any]]:
    """Have others' objects with such prefixes on all engines; collect what they look like."""
    foreign: list[tuple[Engine, Foreign]] = [
        (engine, one)
        for engine in engines.values()
        for prefix in prefixes
        for one in engine.foreigners(prefix, number, engine.types[-1])
    ]
    with ExitStack() as stack:
        looks: list[Any] = []
        for engine, one in foreign:
            engine.run(*one.make)
            stack.callback(engine.run, one.remove)
            looks.append((engine, one, engine.run(one.look)))
        yield looks


def assert_untouched(looks: list[Any]) -> None:
    for engine, one, before in looks:
        assert engine.run(one.look) == before, one.make


def in_process(directory: Path, engines: dict[str, Engine], valkey: Valkey, **values: str) -> Any:
    """Return a second installation on the same servers, without processes."""
    return FaultyService(directory, list(engines.values()), valkey=valkey, environment=values)


def create(service: FaultyService, backend: str) -> Any:
    """Create a credential without a front."""
    token = Secret(service.token())
    caller = Principal(service.installation.tokens.verify(token), token)
    return creation.get_or_create(service.installation, caller, RULES[backend], "transformations")


def test_another_installation_and_look_alikes_survive_everything(
    mixed_service: FaultyService,
    mixed_oracle: Oracle,
    engines: dict[str, Engine],
    valkey: Valkey,
    tmp_path: Path,
) -> None:
    prefix = mixed_service.installation.prefix
    # Its prefix starts as ours does.
    other = in_process(tmp_path / "other", engines, valkey, NAME_PREFIX=f"{prefix}c_")
    theirs = {backend: create(other, backend).details for backend in BACKENDS}
    ours = {
        backend: Caller(mixed_service, Ledger(), backend=backend).create("transformations")
        for backend in BACKENDS
    }
    numbers = [int(body["id"]) for body in ours.values()]
    similar = [f"{prefix}c_", f"{prefix[:-1]}x"]
    with (
        standing(engines, similar, numbers[0]) as foreign,
        standing(engines, [prefix], f"{numbers[0]}_7") as by_hand,
    ):
        found = report(mixed_service)
        assert not found["orphans"] and not found["ghosts"]
        # Objects with exactly our prefix are reported, where we may see them.
        unknown = {(one["backend"], one["name"]) for one in found["unknown"]}
        for engine, one, _ in by_hand:
            name = one.make[0].split()[2].strip("`").partition("`")[0]
            assert engine.backend == "snowflake" or (engine.backend, name) in unknown
        expire(mixed_service, numbers[:2])
        wait_dropped(mixed_service, numbers[:2])
        for number in numbers[2:]:
            lose_row(mixed_service, number, closed=False)
        run(mixed_service, "orphans", "--fix")
        assert_untouched(foreign)
        assert_untouched(by_hand)
    mixed_oracle.settle()
    for backend, details in theirs.items():
        engines[backend].try_login(details)
    assert comparison.build_report(other.installation).clean
    # And the other way round.
    mine = Caller(mixed_service, Ledger()).create()
    with other.installation.database.write() as session:
        session.execute(delete(Credentials))
    assert run(other, "orphans", "--fix")[0] == 0
    assert comparison.build_report(other.installation).clean
    engines["mysql"].try_login(mine["credentials"])
    other.installation.close()


def test_without_a_prefix_orphans_are_only_reported(
    engines: dict[str, Engine], valkey: Valkey, tmp_path: Path
) -> None:
    chosen = {"mysql": engines["mysql"]}
    bare = in_process(tmp_path / "bare", chosen, valkey, NAME_PREFIX="")
    details = create(bare, "mysql").details
    with bare.installation.database.write() as session:
        session.execute(delete(Credentials))
    code, said = run(bare, "orphans", "--fix")
    assert code == 1
    assert details["db"] in said
    engines["mysql"].try_login(details)
    for part in engines["mysql"].parts:
        engines["mysql"].remove(details, part)
    bare.installation.close()


# Servers that do not answer -------------------------------------------------------------


def test_a_silent_server_is_named_and_judges_nobody(
    engines: dict[str, Engine], valkey: Valkey, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        (tmp_path / "servers.toml").write_text(
            f'[[mysql]]\nname = "silent"\nhost = "{host}"\nport = {port}\n'
            'user = "nobody"\npassword = "x"\ntakes_new = false\n'
        )
        service = in_process(
            tmp_path / "service",
            {"mysql": engines["mysql"]},
            valkey,
            SERVERS_FILE=str(tmp_path / "servers.toml"),
            ENGINE_TIMEOUT_SECONDS="1",
        )
        moved, gone = (create(service, "mysql") for _ in range(2))
        with service.installation.database.write() as session:
            for view, server in ((moved, "silent"), (gone, "sold")):
                row = update(Credentials).where(Credentials.id == view.id)
                session.execute(row.values(server=server))
        start = time.monotonic()
        found = report(service)
        assert time.monotonic() - start < 8
        failures = {one["server"]: one["failure"] for one in found["servers"]}
        assert failures["default"] is None
        assert "server silent" in failures["silent"]
        assert failures["sold"] == "not configured"
        # Objects that a row on another server names are not orphans either.
        assert not found["orphans"] and not found["ghosts"]
        service.installation.close()
    for view in (moved, gone):
        for part in engines["mysql"].parts:
            engines["mysql"].remove(view.details, part)


# Telling operators ----------------------------------------------------------------------


def test_operators_read_the_report_over_http(mixed_service: FaultyService) -> None:
    client = mixed_service.anonymous()
    path = "/provisioning/manage/orphans"
    assert client.get(path).status == 400
    _, token = ManageTokens(mixed_service.installation.database).create("a test")
    answer = client.get(path, headers={"X-KBC-ManageApiToken": token.reveal()})
    assert answer.status == 200, answer
    assert answer.body["counts"].keys() >= {"orphans", "ghosts", "unasked"}
    assert {one["backend"] for one in answer.body["servers"]} == set(BACKENDS)


def test_the_regular_check_tells_of_what_it_finds_and_mends_nothing(
    mixed_service: FaultyService, mixed_oracle: Oracle
) -> None:
    body = Caller(mixed_service, Ledger()).create("transformations")
    lose_row(mixed_service, int(body["id"]), closed=False)
    comparison.log_orphans(mixed_service.installation)
    with mixed_service.installation.database.read() as session:
        query = select(Event.detail).where(Event.action == "orphans.found")
        told = session.scalars(query.order_by(Event.id.desc())).first()
    assert told is not None
    assert told["orphans"] == 3
    assert len(report(mixed_service)["orphans"]) == 3
    assert report(mixed_service, "--fix")["outcome"] == {"removed": 1, "waiting": []}
    mixed_oracle.assert_clean()
