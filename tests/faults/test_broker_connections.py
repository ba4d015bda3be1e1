"""Each use of the broker survives its restart and cut connections, on Redis and RabbitMQ."""

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from devstack.rabbitmq import RabbitMQ
from devstack.server import Server
from devstack.valkey import Valkey
from tests.faults.proxy import Proxy
from tests.support.deadlines import bar, wait_until
from workers import broker
from workers.app import PatientAMQP
from workers.broker import TIMEOUT, Broker, BrokerUnavailable

#: Messages that are sent one after another, each over a connection that was cut.
CUTS = 5


class CutOff:
    """A broker's server behind a proxy, and the service's way to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.proxy = Proxy()
        self.proxy.open(server.port)
        self.queue = f"queue-{id(self)}"
        url = server.url.replace(f":{server.port}/", f":{self.proxy.port}/")
        self.broker = Broker(Celery(broker=url, amqp=PatientAMQP))

    def cut(self) -> None:
        """End all connections; new ones get through."""
        self.proxy.cut()
        self.proxy.open(self.server.port)

    def send(self) -> None:
        self.broker.send(self.queue, "job", (1,))

    def count(self) -> int:
        return self.broker.count_waiting(self.queue)


@pytest.fixture(scope="module", params=[Valkey, RabbitMQ])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    kind: type[Valkey] | type[RabbitMQ] = request.param
    if kind.missing():
        pytest.skip(f"{kind.name} is not installed")
    with kind(tmp_path_factory.mktemp(kind.name)) as server:
        yield server


@pytest.fixture
def cut_off(server: Server) -> Iterator[CutOff]:
    cut_off = CutOff(server)
    yield cut_off
    cut_off.proxy.close()


def test_no_message_is_lost_to_a_connection_that_had_ended(cut_off: CutOff) -> None:
    for number in range(CUTS):
        cut_off.send()
        assert cut_off.count() == number + 1
        cut_off.cut()


def test_a_look_into_a_queue_connects_anew(cut_off: CutOff) -> None:
    cut_off.send()
    for _ in range(CUTS):
        cut_off.cut()
        assert cut_off.count() == 1


def test_a_broker_that_was_away_is_used_again(
    cut_off: CutOff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the connections of before were last used for."""
    monkeypatch.setattr(broker, "PAUSE", 0)
    for use in (cut_off.count, cut_off.send):
        cut_off.send()
        cut_off.proxy.cut()
        for _ in range(2):
            assert fails(use) < bar(1)
        assert not cut_off.broker.answers(1)
        cut_off.proxy.open(cut_off.server.port)
        assert cut_off.broker.answers(bar(1))
    assert cut_off.count() == 2


def test_a_broker_that_hangs_holds_nobody_for_long(cut_off: CutOff) -> None:
    cut_off.send()
    cut_off.server.pause()
    try:
        assert fails(cut_off.send) < bar(2 * TIMEOUT + 1)
        # Nobody waits to find that out again.
        assert fails(cut_off.count) < bar(0.1)
        assert not cut_off.broker.answers(0.1)
    finally:
        cut_off.server.resume()
    wait_until(lambda: cut_off.broker.answers(bar(1)), what="the broker's answer")
    # What was sent when it hung may have been taken all the same.
    assert cut_off.count() in (1, 2)


def fails(use: Callable[[], object]) -> float:
    """Return the seconds until the broker is found to be away."""
    start = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        use()
    return time.monotonic() - start
