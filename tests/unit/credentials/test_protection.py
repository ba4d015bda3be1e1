"""What protection refuses; what it does is in the contract tests."""

import pytest

from provisioning.credentials.protection import protect
from provisioning.errors import CredentialsNotFound, ParameterInvalid
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.support.waiting_jobs import Queue
from tests.unit.credentials.ending_credentials import DAY, add_credentials


def test_only_what_lives_is_protected_and_only_from_now_on(queue: Queue) -> None:
    with queue.installation.database.read() as session:
        now = read_clock(session)
    going = add_credentials(queue, now + DAY, state=CredentialsState.DROPPING)
    for unknown in (going, 999_999_999):
        with pytest.raises(CredentialsNotFound):
            protect(queue.installation, unknown, now + DAY, "ada")
    live = add_credentials(queue, now + DAY)
    with pytest.raises(ParameterInvalid, match="'until' is invalid: it has to be in the future"):
        protect(queue.installation, live, now, "ada")
    with queue.installation.database.read() as session:
        assert session.get_one(Credentials, live).protected_until is None
