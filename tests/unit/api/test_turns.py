"""Callers take turns: none keeps others waiting, however many requests it sends."""

import pytest

from api import turns
from api.shares import Shares
from api.turns import Turns


def test_a_caller_may_hold_as_many_places_as_are_left() -> None:
    shares = Shares(12)
    assert [shares.take("a") for _ in range(7)] == [True] * 6 + [False]
    assert [shares.take("b") for _ in range(4)] == [True] * 3 + [False]
    assert [shares.take("c") for _ in range(3)] == [True, True, False]
    shares.release("a")
    shares.release("b")
    assert shares.take("c") and not shares.take("c")


def test_one_place_is_for_whoever_comes_first() -> None:
    shares = Shares(1)
    assert shares.take("a") and not shares.take("b")
    shares.release("a")
    assert shares.take("b")


def test_callers_take_turns() -> None:
    queue: Turns[str] = Turns(4, 100)
    for number in range(10):
        queue.add("many", f"many {number}")
    queue.add("one", "one 0")
    assert list(queue.start()) == ["many 0", "one 0", "many 1"]
    queue.add("other", "other 0")
    assert list(queue.start()) == ["other 0"]
    queue.end("one", "one 0")
    assert list(queue.start()) == []
    queue.end("many", "many 0")
    assert list(queue.start()) == ["many 2"]
    assert len(queue) == 7


def test_who_waits_lets_another_one_compute_and_keeps_its_thread() -> None:
    queue: Turns[str] = Turns(2, 4)
    for number in range(3):
        queue.add("a", f"a {number}")
    assert list(queue.start()) == ["a 0"]
    queue.pass_on("a 0")
    assert list(queue.start()) == ["a 1"]
    queue.pass_on("a 1")
    assert list(queue.start()) == [], "the other threads are for others"
    queue.add("b", "b 0")
    assert list(queue.start()) == ["b 0"]
    queue.end("a", "a 0")
    queue.pass_on("a 0")
    assert list(queue.start()) == ["a 2"]


def test_a_turn_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: Turns[str] = Turns(1, 10)
    queue.add("a", "a 0")
    assert list(queue.start()) == ["a 0"]
    queue.add("b", "b 0")
    queue.pass_on_late()
    assert list(queue.start()) == []
    monkeypatch.setattr(turns, "TURN", 0)
    queue.end("a", "a 0")
    assert list(queue.start()) == ["b 0"]
    queue.add("c", "c 0")
    queue.pass_on_late()
    assert list(queue.start()) == ["c 0"]


def test_who_waits_too_long_is_given_up() -> None:
    queue: Turns[str] = Turns(1, 1)
    for name in ("a 0", "a 1", "b 0"):
        queue.add(name[0], name)
    assert list(queue.start()) == ["a 0"]
    assert queue.give_up(60) == []
    assert queue.give_up(-1) == ["b 0", "a 1"]
    assert len(queue) == 0
