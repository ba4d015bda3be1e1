"""Every event of a job can be shown to callers."""

from typing import Any

import pytest

from api.event_records import DELAYS, MESSAGES, event_record
from provisioning.jobs.claiming import SLOT_BUSY
from provisioning.jobs.outcomes import SERVER_DOWN
from provisioning.state.events import Action
from provisioning.state.models import Event

#: Their sentence is in the event itself.
OWN_SENTENCE = {Action.JOB_STEP, Action.JOB_FAILED}
#: What happens to a credential or to the installation beside any job.
BESIDE_JOBS = {
    Action.CREATION_FAILED,
    Action.EXTENDED,
    Action.EXPIRING,
    Action.GRACE_GIVEN,
    Action.PROTECTED,
    Action.PASSWORD_RESET,
    Action.PASSWORD_MENDED,
    Action.VANISHED,
    Action.DROP_DELAYED,
    Action.ORPHANED,
    Action.SOFT_LIMIT,
    Action.WARNING_TAKEN,
    Action.WARNING_GIVEN_UP,
    Action.TOKEN_CREATED,
    Action.TOKEN_REVOKED,
    Action.MANAGE_TOKEN_CREATED,
    Action.MANAGE_TOKEN_REVOKED,
    Action.ORPHANS_FOUND,
    Action.OBSERVATION_BEGUN,
    Action.OBSERVATION_ENDED,
}


def message_of(action: Action, **detail: Any) -> Any:
    event = Event(id=1, time=0, action=action, worker="w:1", job_id=7, detail=detail)
    return event_record(event)["message"]


@pytest.mark.parametrize("action", sorted(set(Action) - OWN_SENTENCE - BESIDE_JOBS))
def test_an_event_of_a_job_has_a_sentence(action: Action) -> None:
    """A new action gets one too, unless it is said above that no job has it."""
    assert message_of(action, reason="internal")


@pytest.mark.parametrize("action", sorted(OWN_SENTENCE))
def test_a_step_and_a_failure_say_it_themselves(action: Action) -> None:
    assert message_of(action, message="The network is made") == "The network is made"


@pytest.mark.parametrize("reason", [SERVER_DOWN, SLOT_BUSY, "internal"])
def test_a_delay_says_why(reason: str) -> None:
    assert message_of(Action.JOB_DELAYED, reason=reason) == DELAYS[reason]


def test_no_event_of_a_job_is_taken_for_one_beside_jobs() -> None:
    assert not BESIDE_JOBS & set(MESSAGES)
    assert not [action for action in BESIDE_JOBS if action.startswith("job.")]
