"""Moments as callers write them."""

from datetime import UTC, datetime, timedelta

import pytest

from provisioning.storage.table_files import read_moment

NOW = datetime(2019, 1, 10, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("-7 days", NOW - timedelta(days=7)),
        ("-1 day", NOW - timedelta(days=1)),
        ("2 weeks ago", NOW - timedelta(weeks=2)),
        ("-90 MINUTES", NOW - timedelta(minutes=90)),
        (" -1month ", NOW - timedelta(days=30)),
        ("+1 hour", NOW + timedelta(hours=1)),
        ("2019-01-03", datetime(2019, 1, 3, tzinfo=UTC)),
        ("2019-01-03 12:30:00", datetime(2019, 1, 3, 12, 30, tzinfo=UTC)),
        ("2019-01-03T12:30:00+0200", datetime(2019, 1, 3, 10, 30, tzinfo=UTC)),
        ("2019-01-03T12:30:00Z", datetime(2019, 1, 3, 12, 30, tzinfo=UTC)),
        ("1546300800", datetime(2019, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert read_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "-7", "7 apples", "2019-13-01", "-999999999 years"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        read_moment(text, NOW)
