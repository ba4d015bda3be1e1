"""Waits are cut to 60 seconds (contract 7.1 and 9.1.10)."""

from tests.contract.expectations import accepted_job
from tests.contract.long_waits import WANTED, LongWaits


def test_a_preferred_wait_is_cut_to_60_seconds(long_waits: LongWaits) -> None:
    answer, seconds = long_waits.delete.result()
    accepted_job(answer)
    assert 59 < seconds < WANTED / 2


def test_a_long_poll_is_cut_to_60_seconds(long_waits: LongWaits) -> None:
    answer, seconds = long_waits.poll.result()
    assert answer.status == 200
    assert answer.body["status"] == "waiting"
    assert 59 < seconds < WANTED / 2
