"""What the service says to the Storage API, and how it takes the answers (contract 12)."""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from provisioning.configuration.secrets import Secret
from provisioning.storage.base import FileQuery, StorageRefused, StorageUnavailable, TableQuery
from provisioning.storage.keboola import KeboolaStorage
from tests.storage.case import PATIENCE, RUN_ID, KeboolaCase, export
from tests.support.deadlines import DEADLINE, ENDLESS
from tests.support.storage_simulator import Repeated, Reply, StorageSimulator, Table

TABLE = "in.c-main.people"

DOWN = Reply(503, {"error": "Maintenance"})
GONE = Reply(hang_up=True)

Ask = Callable[[KeboolaStorage], object]


@pytest.fixture
def case(simulator: StorageSimulator, token: str) -> KeboolaCase:
    simulator.add_table(Table(TABLE, ["id", "name"], [["1", "Ann"]]))
    return KeboolaCase(simulator, token)


def patient(case: KeboolaCase, **bounds: float) -> tuple[KeboolaStorage, list[float]]:
    """Return a storage with other bounds, and the pauses that it makes, without their time."""
    pauses: list[float] = []
    storage = KeboolaStorage(
        case.simulator.url,
        Secret(case.token),
        RUN_ID,
        replace(PATIENCE, **bounds),
        pauses.append,
    )
    return storage, pauses


# What is said -----------------------------------------------------------------------------


def test_every_call_carries_the_token_and_the_run_id(case: KeboolaCase) -> None:
    storage = case.storage()
    file_id = case.add_file("a", b"x", ["red"])
    case.add_configuration("tr", "4", [{"id": "1", "configuration": {}}])
    export(storage, TableQuery(TABLE))
    storage.table_details(TABLE)
    storage.find_files(FileQuery(tags=("red",)))
    storage.tag_file(file_id, "green")
    storage.configuration_row("tr", "4", "1")
    assert len(case.simulator.requests) == 7
    for request in case.simulator.requests:
        assert request.headers["X-StorageApi-Token"] == case.token
        assert request.headers["X-KBC-RunId"] == RUN_ID


def test_no_token_and_no_run_id_go_to_a_file_server(case: KeboolaCase) -> None:
    export(case.storage(), TableQuery(TABLE))
    (request,) = case.simulator.files.requests
    assert "X-StorageApi-Token" not in request.headers
    assert "X-KBC-RunId" not in request.headers


def test_an_export_asks_for_no_more_than_it_was_asked(case: KeboolaCase) -> None:
    export(case.storage(), TableQuery(TABLE))
    (request,) = case.simulator.asked("export-async")
    assert request.form == [("format", "rfc"), ("gzip", "1")]


def test_an_export_passes_every_condition_on(case: KeboolaCase) -> None:
    query = TableQuery(
        TABLE,
        columns=("id", "name"),
        changed_since="-7 days",
        where_column="name",
        where_values=("Ann", "B&b"),
        where_operator="ne",
        limit=3,
    )
    export(case.storage(), query)
    (request,) = case.simulator.asked("export-async")
    assert sorted(request.form) == [
        ("changedSince", "-7 days"),
        ("columns", "id,name"),
        ("format", "rfc"),
        ("gzip", "1"),
        ("limit", "3"),
        ("whereColumn", "name"),
        ("whereOperator", "ne"),
        ("whereValues[]", "Ann"),
        ("whereValues[]", "B&b"),
    ]


def test_files_are_asked_for_page_by_page(case: KeboolaCase) -> None:
    ids = [case.add_file(f"f{number}", b"", ["many"]) for number in range(230)]
    found = case.storage().find_files(FileQuery(tags=("many",), limit=220))
    assert found == list(reversed(ids))[:220]
    windows = [(r.one("limit"), r.one("offset")) for r in case.simulator.asked("/files")]
    assert windows == [("100", "0"), ("100", "100"), ("20", "200")]


def test_a_file_asks_for_credentials(case: KeboolaCase) -> None:
    case.storage().file_details(case.add_file("a", b""))
    (request,) = case.simulator.asked("/files/")
    assert request.query == [("federationToken", "1")]


# Jobs of the storage ----------------------------------------------------------------------


def test_an_export_is_asked_after_with_growing_pauses(case: KeboolaCase) -> None:
    case.simulator.add_table(Table(TABLE, ["id"], [["1"]], polls=12))
    storage, pauses = patient(case, export=60)
    assert export(storage, TableQuery(TABLE)) == '"id"\n"1"\n'
    assert len(pauses) == 12
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 10)


def test_the_error_of_an_export_is_the_callers(case: KeboolaCase) -> None:
    case.simulator.add_table(Table(TABLE, ["id"], polls=2, error="The bucket is being moved"))
    with pytest.raises(StorageRefused, match="^The bucket is being moved$"):
        export(case.storage(), TableQuery(TABLE))


def test_an_export_that_does_not_end_is_given_up(case: KeboolaCase) -> None:
    case.simulator.add_table(Table(TABLE, ["id"], polls=1_000_000))
    storage, _ = patient(case, export=0.5)
    with pytest.raises(StorageUnavailable, match="did not end"):
        export(storage, TableQuery(TABLE))


# Outages ----------------------------------------------------------------------------------


def calls() -> dict[str, Ask]:
    return {
        "tables/": lambda storage: storage.table_details(TABLE),
        "export-async": lambda storage: export(storage, TableQuery(TABLE)),
        "jobs/": lambda storage: export(storage, TableQuery(TABLE)),
        "files/": lambda storage: export(storage, TableQuery(TABLE)),
        "files": lambda storage: storage.find_files(FileQuery(tags=("red",))),
        "tags": lambda storage: storage.tag_file(storage.find_files(FileQuery())[0], "green"),
        "configs": lambda storage: storage.configuration_row("tr", "4", "1"),
    }


@pytest.mark.parametrize("fragment", calls())
def test_a_call_is_repeated_until_it_is_answered(case: KeboolaCase, fragment: str) -> None:
    case.add_file("a", b"", ["red"])
    case.add_configuration("tr", "4", [{"id": "1", "configuration": {}}])
    faults = [DOWN, GONE, Reply(500, raw=b"<html>"), Reply(502)]
    case.simulator.disturb(fragment, *[lambda _, fault=fault: fault for fault in faults])
    storage, pauses = patient(case)
    calls()[fragment](storage)
    assert pauses[:4] == [0.5, 1, 2, 4]


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"7", b'"x"', b"{", b"\xff"])
def test_an_answer_that_is_no_object_is_asked_for_again(case: KeboolaCase, content: bytes) -> None:
    case.simulator.disturb("tables/", lambda _: Reply(raw=content))
    assert case.storage().table_details(TABLE)["id"] == TABLE


def test_an_outage_is_given_up_after_the_time_for_retries(case: KeboolaCase) -> None:
    case.simulator.disturb("tables/", *[lambda _: DOWN] * 100)
    storage, pauses = patient(case, retries=300)
    with pytest.raises(StorageUnavailable, match=f"GET tables/{TABLE} answered 503"):
        storage.table_details(TABLE)
    assert pauses == sorted(pauses)
    assert 240 < sum(pauses) <= 300


def test_silence_counts_as_time_lost(case: KeboolaCase) -> None:
    case.simulator.disturb("tables/", *[lambda reply: replace(reply, delay=ENDLESS)] * 100)
    storage, pauses = patient(case, call=1, retries=3.4)
    with pytest.raises(StorageUnavailable, match="was not answered"):
        storage.table_details(TABLE)
    # Without the silence of two calls, a pause of a second would still fit.
    assert pauses == [0.5]


def test_no_call_lasts_longer_than_the_time_for_retries(case: KeboolaCase) -> None:
    case.simulator.disturb("tables/", lambda reply: replace(reply, delay=ENDLESS))
    storage, _ = patient(case, call=ENDLESS, retries=0.2)
    begin = time.monotonic()
    with pytest.raises(StorageUnavailable, match="was not answered"):
        storage.table_details(TABLE)
    assert time.monotonic() - begin < DEADLINE


def test_an_answer_that_trickles_is_given_up(case: KeboolaCase) -> None:
    case.simulator.disturb("tables/", *[lambda reply: replace(reply, drip=0.05)] * 100)
    storage, _ = patient(case, call=0.2, retries=0.5)
    with pytest.raises(StorageUnavailable, match="was not answered"):
        storage.table_details(TABLE)


def test_an_answer_without_end_is_given_up_at_once(case: KeboolaCase) -> None:
    endless = Reply(raw=Repeated(b" " * 1024 * 1024, 64))
    case.simulator.disturb("tables/", lambda _: endless)
    with pytest.raises(StorageUnavailable, match="too much"):
        case.storage().table_details(TABLE)


@pytest.mark.parametrize(
    "body", [{"results": None}, {"results": {"file": {}}}, {"results": {"file": {"id": "x"}}}]
)
def test_a_strange_answer_is_no_data(case: KeboolaCase, body: dict[str, object]) -> None:
    case.simulator.disturb("jobs/", lambda _: Reply(body={"status": "success", **body}))
    with pytest.raises(StorageUnavailable, match="results.file.id"):
        export(case.storage(), TableQuery(TABLE))


# Refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_a_refusal_is_told_in_the_storages_words_at_once(case: KeboolaCase, status: int) -> None:
    case.simulator.disturb("tables/", lambda _: Reply(status, {"error": "Not for you"}))
    storage, pauses = patient(case)
    with pytest.raises(StorageRefused, match="^Not for you$"):
        storage.table_details(TABLE)
    assert pauses == []


@pytest.mark.parametrize("body", [None, {}, [], "text", {"error": {"message": ""}}, {"error": 5}])
def test_a_refusal_without_words_names_the_call(case: KeboolaCase, body: object) -> None:
    case.simulator.disturb("tables/", lambda _: Reply(404, body))
    with pytest.raises(StorageRefused, match=f"GET tables/{TABLE} answered 404"):
        case.storage().table_details(TABLE)


def test_a_refusal_does_not_repeat_the_token(case: KeboolaCase) -> None:
    said = {"error": f"Token {case.token} is not known"}
    case.simulator.disturb("tables/", lambda _: Reply(401, said))
    with pytest.raises(StorageRefused) as caught:
        case.storage().table_details(TABLE)
    assert str(caught.value) == "Token ******** is not known"


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, format: str, *arguments: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_redirect_is_not_followed(case: KeboolaCase, elsewhere: tuple[str, list[str]]) -> None:
    url, asked = elsewhere
    away = Reply(302, {}, headers={"Location": f"{url}/steal"})
    case.simulator.disturb("tables/", *[lambda _: away] * 100)
    with pytest.raises(StorageUnavailable, match="answered 302"):
        case.storage().table_details(TABLE)
    assert asked == []


# Secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
@pytest.mark.parametrize("fault", ["good", "refused", "missing", "down", "cut"])
def test_nothing_secret_is_logged_or_raised(
    case: KeboolaCase,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    provider: str,
    fault: str,
) -> None:
    faults = {
        "good": Reply(raw=b"x"),
        "refused": Reply(403, raw=b"denied"),
        "missing": Reply(404),
        "down": Reply(503),
        "cut": Reply(raw=b"x" * 10_000, cut=5_000),
    }
    case.simulator.add_table(Table(TABLE, ["id"], [["1"]], slices=1, provider=provider))
    with caplog.at_level(logging.DEBUG):
        # The first request is for the list of slices.
        case.simulator.files.disturb("0000", *[lambda _: faults[fault]] * 100)
        said = _failure(case)
    told = caplog.text + "".join(capfd.readouterr()) + said
    assert bool(said) == (fault != "good")
    for secret in [*case.simulator.files.secrets, case.token]:
        assert secret not in told


def _failure(case: KeboolaCase) -> str:
    """Return all that a traceback of a failed export can show."""
    try:
        case.storage().export_table(TableQuery(TABLE), io.BytesIO())
    except (StorageRefused, StorageUnavailable) as problem:
        return " ".join(map(repr, _chain(problem)))
    return ""


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__
