"""Lifetimes, touch and the hard maximum (contract 4.5, 6.3, 11)."""

from hypothesis import given
from hypothesis import strategies as st

from provisioning.configuration.config import Lifetime
from provisioning.credentials.lifetime import can_extend, expiry, longest, next_touch, shortened

HOUR = 3600
NOW = 1_795_000_000_123


def test_a_credential_lives_from_its_touch() -> None:
    assert expiry(Lifetime(HOUR, None), 5_000, 0) == 5_000 + HOUR * 1000


def test_none_is_for_ever() -> None:
    assert expiry(Lifetime(None, None), 5_000, 0) is None


def test_the_hard_maximum_counts_from_creation() -> None:
    assert expiry(Lifetime(HOUR, 2 * HOUR), 90 * 60_000, 0) == 2 * HOUR * 1000
    assert expiry(Lifetime(None, HOUR), 5_000, 0) == HOUR * 1000


def test_a_caller_may_ask_for_less_than_a_lifetime_and_the_maximum() -> None:
    assert longest(Lifetime(None, None)) is None
    assert longest(Lifetime(HOUR, None)) == longest(Lifetime(HOUR, 2 * HOUR)) == HOUR
    assert longest(Lifetime(None, HOUR)) == longest(Lifetime(2 * HOUR, HOUR)) == HOUR
    assert shortened(Lifetime(HOUR, None), None) == Lifetime(HOUR, None)
    assert shortened(Lifetime(HOUR, 2 * HOUR), 60) == Lifetime(60, 2 * HOUR)
    assert shortened(Lifetime(None, None), 10 * HOUR) == Lifetime(10 * HOUR, None)
    # What it was chosen by may have changed until it is made.
    assert shortened(Lifetime(HOUR, None), 2 * HOUR) == Lifetime(HOUR, None)


def test_a_touch_is_whole_seconds_and_always_later() -> None:
    assert next_touch(NOW, NOW - 10_000) == NOW - 123
    assert next_touch(NOW, NOW - 123) == NOW - 123 + 1000
    # A touch in the future, after several extends in one second, grows still.
    assert next_touch(NOW, NOW + 4_877) == NOW + 5_877


@given(st.lists(st.integers(0, 3_000), max_size=30))
def test_touches_grow_strictly_whatever_the_clock_does(steps: list[int]) -> None:
    now, touched = NOW, NOW - NOW % 1000
    for step in steps:
        now += step
        later = next_touch(now, touched)
        assert later > touched
        assert later % 1000 == 0
        touched = later


def test_only_a_hard_maximum_refuses_an_extend() -> None:
    touched = NOW - NOW % 1000
    free = Lifetime(HOUR, None)
    assert can_extend(free, NOW, touched, touched, expiry(free, touched, touched))
    tight = Lifetime(HOUR, HOUR)
    assert not can_extend(tight, NOW, touched, touched, expiry(tight, touched, touched))
    roomy = Lifetime(HOUR, 2 * HOUR)
    assert can_extend(roomy, NOW, touched, touched, expiry(roomy, touched, touched))
