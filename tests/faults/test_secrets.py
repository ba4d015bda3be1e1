"""The hunt for secrets: what was issued is nowhere but with its owner and in the vault."""

import subprocess
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from sqlalchemy import inspect, select

from provisioning.state.models import Base, Credentials, Login
from tests.faults.callers import Caller, Ledger
from tests.faults.messages import Messages
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.hunt import HUNT

TYPES = ("sandbox", "transformations")
#: Columns that hold encrypted secrets.
ENCRYPTED = {
    Credentials.__tablename__: {"secret", "private_key"},
    Login.__tablename__: {"secret"},
}


def test_no_issued_secret_can_be_found_anywhere(
    service: FaultyService, oracle: Oracle, ledger: Ledger
) -> None:
    messages, places = Messages(service), {}
    callers = [Caller(service, ledger, person=str(900 + n)) for n in range(8)]
    bodies = [caller.create(TYPES[n % 2]) for n, caller in enumerate(callers)]
    places["error bodies"] = "\n".join(_provoke_errors(service, callers, bodies))
    for worker in service.workers:
        worker.pause()
    try:
        jobs = [caller.drop_later(body["id"]) for caller, body in zip(callers, bodies, strict=True)]
        places["broker"] = messages.content()
        assert f"[{jobs[-1]}]" in places["broker"], "the dump shows what messages carry"
        places["processes"] = _processes()
        places["queue"] = "\n".join(_job_records(callers, jobs))
    finally:
        for worker in service.workers:
            worker.resume()
    assert oracle.settle(), oracle.unfinished()
    places["state"] = "\n".join(_state(service))
    places["logs"] = service.logs()
    hits = [
        f"{place}: a secret of {len(secret)} characters"
        for place, text in places.items()
        for secret in ledger.secrets()
        if secret in text
    ]
    assert not hits, "\n".join(hits)
    assert all(places.values())


def test_the_hunt_finds_what_is_there(service: FaultyService, ledger: Ledger) -> None:
    """Without this the hunt could look in the wrong places and be content."""
    caller = Caller(service, ledger)
    body = caller.create()
    password = body["credentials"]["password"]
    assert {caller.token, password} <= ledger.secrets()
    assert body["credentials"]["user"] in "\n".join(_state(service))
    assert "credentials.created" in "\n".join(_state(service))
    assert "api.app:create_app" in _processes()
    assert f'"credentials": {body["id"]}' in service.logs()
    encrypted = "\n".join(_state(service, skipped={}))
    row_secret = _secret_of(service, int(body["id"]))
    assert row_secret in encrypted and row_secret not in "\n".join(_state(service))


def test_the_hunt_at_the_end_of_the_run_knows_what_to_look_for(
    service: FaultyService, ledger: Ledger
) -> None:
    caller = Caller(service, ledger)
    password = caller.create()["credentials"]["password"]
    assert HUNT.knows(password) and HUNT.knows(caller.token)
    broker = urlsplit(service.environment["BROKER_URL"]).password
    assert broker is not None and HUNT.knows(broker)


def _secret_of(service: FaultyService, number: int) -> str:
    with service.installation.database.read() as session:
        return session.execute(
            select(Credentials.secret).where(Credentials.id == number)
        ).scalar_one()


def _provoke_errors(
    service: FaultyService, callers: list[Caller], bodies: list[dict[str, str]]
) -> Iterator[str]:
    """Send what is refused, with real tokens and passwords in it."""
    for caller, body in zip(callers, bodies, strict=True):
        password = body["credentials"]["password"]  # type: ignore[index]
        client = service.impatient_client(caller.token)
        for method, path, data in (
            ("POST", "/provisioning/mysql", b"{" + caller.token.encode()),
            ("POST", "/provisioning/mysql", {"type": "sandbox", "password": password}),
            ("GET", "/provisioning/mysql/999999999", None),
            ("DELETE", "/provisioning/mysql/999999999", None),
            ("GET", "/queue/job/999999999", None),
            ("PATCH", "/provisioning/mysql", None),
        ):
            answer = client(method, path, data)
            assert answer.status >= 400
            yield answer.text
        wrong = service.impatient_client(caller.token + "x").get("/provisioning/mysql")
        assert wrong.status == 401
        yield wrong.text


def _job_records(callers: list[Caller], jobs: Iterable[int | None]) -> Iterator[str]:
    for caller, job in zip(callers, jobs, strict=True):
        for path in (f"/queue/job/{job}", f"/queue/job/{job}/events"):
            yield caller.ask("GET", path).text


def _processes() -> str:
    """Return the command lines of all processes, as every user of the machine sees them."""
    done = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    return done.stdout


def _state(service: FaultyService, skipped: dict[str, set[str]] | None = None) -> Iterator[str]:
    """Return every value of every table, without the columns that are encrypted."""
    skipped = ENCRYPTED if skipped is None else skipped
    with service.installation.database.read() as session:
        tables = inspect(session.connection()).get_table_names()
        for name in tables:
            if name not in Base.metadata.tables:
                continue
            table = Base.metadata.tables[name]
            columns = [c for c in table.columns if c.name not in skipped.get(name, set())]
            for row in session.execute(select(*columns)):
                yield " ".join(map(str, row))
