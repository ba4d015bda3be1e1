"""Wake-up messages sent by hand, and a look into the broker's queue."""

import base64
import json
from typing import Any

import redis
from celery import Celery

from tests.support.service import Service

QUEUE = "provisioning"


class Messages:
    """A sender of the service's tasks, to deliver them twice, late or in any order."""

    def __init__(self, service: Service) -> None:
        self._url = service.environment["BROKER_URL"]
        self._celery = Celery(broker=self._url)

    def send_job(self, job_id: int, queue: str = QUEUE) -> None:
        self._celery.send_task("job", (job_id,), queue=queue, retry=False)

    def send_credentials(self, credentials_id: int) -> None:
        self._celery.send_task("credentials", (credentials_id,), queue=QUEUE, retry=False)

    def send_sweep(self) -> None:
        self._celery.send_task("sweep", (), queue=QUEUE, retry=False)

    def waiting(self, queue: str = QUEUE) -> int:
        """Return how many messages no worker has taken yet."""
        with redis.Redis.from_url(self._url) as broker:
            return int(broker.llen(queue))

    def lose(self) -> None:
        """Empty the broker."""
        with redis.Redis.from_url(self._url) as broker:
            broker.flushdb()

    def content(self) -> str:
        """Return all keys and values of the broker, and the bodies of messages in clear."""
        with redis.Redis.from_url(self._url) as broker:
            return "\n".join(
                text
                for key in broker.scan_iter()
                for value in (key, *_values(broker, key))
                for text in (value.decode(errors="replace"), _body(value))
            )


def _values(broker: Any, key: bytes) -> list[bytes]:
    kind = broker.type(key)
    if kind == b"list":
        return list(broker.lrange(key, 0, -1))
    if kind == b"set":
        return list(broker.smembers(key))
    if kind == b"zset":
        return list(broker.zrange(key, 0, -1))
    if kind == b"hash":
        return [part for pair in broker.hgetall(key).items() for part in pair]
    return [broker.get(key) or b""]


def _body(value: bytes) -> str:
    """Return the decoded body of a message, which the transport carries in base64."""
    try:
        return base64.b64decode(json.loads(value)["body"]).decode()
    except (ValueError, TypeError, KeyError):
        return ""
