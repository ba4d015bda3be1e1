"""Limits of what a project has at once: creations above them are refused, nothing else is."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.contract.expectations import require_error
from tests.contract.server_look import require_login
from tests.support.client import Client
from tests.support.service import Service

MYSQL = "/provisioning/mysql"
LIMITS = {"provisioning.credentials": 10, "provisioning.credentials.soft": 9}
MESSAGE = "The project's limit of 10 live credentials is reached: 10 used."


def test_of_fifty_creates_at_once_ten_are_made(service: Service, project: str) -> None:
    """By different tokens of a project, over two fronts."""
    tokens = [service.token(project=project, limits=LIMITS) for _ in range(50)]
    clients = [service.client(token, front=number % 2) for number, token in enumerate(tokens)]

    def create(client: Client) -> int:
        answer = client.post(MYSQL, {"type": "transformations"})
        if answer.status != 201:
            require_error(answer, 403, "quota_exceeded", MESSAGE)
        return answer.status

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(create, clients))
    assert Counter(statuses) == {201: 10, 403: 40}
    made = [client for client, status in zip(clients, statuses, strict=True) if status == 201]
    refused = clients[statuses.index(403)]
    require_all_but_creation_works(made[0])
    # A place is free as soon as its owner is rid of it, and taken with a warning.
    answer = refused.post(MYSQL, {"type": "transformations"})
    assert answer.status == 201
    warning = "The project uses 10 live credentials, above its soft limit of 9."
    assert answer.body["quotaWarning"] == warning
    require_login(answer.body["credentials"])
    again = refused.post(MYSQL, {"type": "transformations"})
    assert again.status == 201 and "quotaWarning" not in again.body
    assert again.body["credentials"] == answer.body["credentials"]
    require_error(made[0].post(MYSQL, {}), 403, "quota_exceeded", MESSAGE)


def require_all_but_creation_works(client: Client) -> None:
    """The last step deletes the caller's credential."""
    answer = client.post(MYSQL, {"type": "transformations"})
    assert answer.status == 201
    path = f"{MYSQL}/{answer.body['id']}"
    require_error(client.post(MYSQL, {"type": "sandbox"}), 403, "quota_exceeded", MESSAGE)
    assert client.get(path).status == 200
    assert client.post(f"{path}/extend").status == 200
    assert client.post(f"{path}/kill").status == 200
    assert client.delete(path).status == 200
