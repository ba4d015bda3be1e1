"""The operators' view of the audit: events of all projects, newest first, page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from provisioning.state.database import Database
from provisioning.state.models import Event

#: Events that are further apart than so many milliseconds have ids in the order of their times.
DISORDER = 60_000


@dataclass(frozen=True)
class EventSearch:
    """Which events are asked for; the conditions are all to hold."""

    limit: int
    #: Only events with a smaller id: the next page begins where the last one ended.
    before: int | None = None
    #: Seconds since 1970, both included.
    since: int | None = None
    until: int | None = None
    #: Values by column of the table; each of these columns has an index that goes on by id.
    columns: Mapping[str, Any] = field(default_factory=dict)


def find_events(database: Database, search: EventSearch) -> Sequence[Event]:
    """Return the events, newest first.

    A time bounds the ids too, so that a search within an hour reads no events of years.
    """
    # The page is chosen by ids alone, as that of jobs is: an index has them in their order.
    chosen = select(Event.id).filter_by(**search.columns).order_by(Event.id.desc())
    if search.before is not None:
        chosen = chosen.where(Event.id < search.before)
    with database.read() as session:
        chosen = chosen.where(*_within(session, search.since, search.until))
        page = chosen.limit(search.limit).subquery("page")
        query = select(Event).join(page, page.c.id == Event.id).order_by(Event.id.desc())
        return session.scalars(query).all()


def _within(
    session: Session, since: int | None, until: int | None
) -> Sequence[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        earlier = select(Event.id).where(Event.time < since * 1000 - DISORDER)
        last = session.scalars(earlier.order_by(Event.time.desc()).limit(1)).first()
        conditions += [Event.time >= since * 1000, Event.id > (last or 0)]
    if until is not None:
        end = (until + 1) * 1000
        later = select(Event.id).where(Event.time > end + DISORDER)
        first = session.scalars(later.order_by(Event.time).limit(1)).first()
        conditions += [Event.time < end, *([] if first is None else [Event.id < first])]
    return conditions
