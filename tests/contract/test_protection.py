"""An operator keeps a credential beyond its expiration; its owner may still delete it."""

from datetime import datetime

from sqlalchemy import select, update

from provisioning.credentials.protection import protect
from provisioning.state.database import now_ms, read_clock
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Job
from tests.contract.expectations import require_not_found
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.service import Service

HOUR = 3_600_000


def expire(service: Service, id_: int) -> None:
    """Let the credential have expired."""
    with service.installation.database.write() as session:
        row = update(Credentials).where(Credentials.id == id_)
        session.execute(row.values(expires_at=now_ms() - 1000))


def keep_expired(service: Service, id_: int) -> None:
    """Let the credential have expired under protection; else a sweep might come first."""
    with service.installation.database.read() as session:
        now = read_clock(session)
    protect(service.installation, id_, now + HOUR, "ada")
    expire(service, id_)


def has_jobs(service: Service, id_: int) -> bool:
    with service.installation.database.read() as session:
        return session.scalars(select(Job.id).where(Job.credentials_id == id_)).first() is not None


def test_a_protected_credential_outlives_its_expiration(
    service: Service, client: Client, project: str
) -> None:
    created = client.create()
    id_, path = int(created["id"]), f"/provisioning/mysql/{created['id']}"
    assert "protectedUntil" not in client.get(path).body
    other = service.client(service.token(project=project))
    lost = other.create()
    keep_expired(service, id_)
    expire(service, int(lost["id"]))
    # The sweep that retires the other one has seen this one too.
    wait_until(lambda: has_jobs(service, int(lost["id"])), what="the other one retired")
    read = client.get(path).body
    assert read["expiration"] < read["protectedUntil"]
    assert client.create()["id"] == created["id"]
    extended = client.post(f"{path}/extend").body
    assert extended["expiration"] > read["protectedUntil"]
    database, action = service.installation.database, "credentials.protected"
    [event] = newest_events(database, 9, credentials_id=id_, action=action)
    assert event.token_id == "ada"
    assert event.detail == {
        "before": {"protectedUntil": None},
        "after": {"protectedUntil": read["protectedUntil"]},
    }
    assert datetime.fromisoformat(read["protectedUntil"]).utcoffset() is not None
    assert client.delete(path).status == 200
    require_not_found(client.get(path))


def test_the_end_of_the_protection_is_the_end_of_the_credential(
    service: Service, client: Client
) -> None:
    created = client.create()
    id_, path = int(created["id"]), f"/provisioning/mysql/{created['id']}"
    keep_expired(service, id_)
    assert client.get(path).status == 200
    protect(service.installation, id_, None, "ada")
    require_not_found(client.get(path))
    wait_until(lambda: has_jobs(service, id_), what="the credential retired")
