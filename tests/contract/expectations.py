"""What every answer has to be, as assertions (contract sections 2.1, 3 and 6)."""

import re
from typing import Any

from tests.support.client import Answer, Client
from tests.support.deadlines import LONG_DEADLINE, wait_until

ERROR_KEYS = {"status", "error", "code", "reason", "message", "exceptionId", "runId"}
CREDENTIAL_KEYS = {"id", "hostname", "port", "db", "user", "password"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
NO_SUCH_CREDENTIALS = "Credentials not found."
INTERNAL = "Internal error occurred, contact support and attach this exception id."


def require_headers(answer: Answer) -> None:
    """The headers of every answer that is not one to OPTIONS (2.1)."""
    assert answer.headers.get_all("Content-Type") == ["application/json"]
    assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert answer.headers.get_all("Access-Control-Allow-Methods") == ["*"]
    assert answer.headers.get_all("Access-Control-Allow-Headers") == ["*"]
    assert answer.headers.get_all("Cache-Control") == [
        "private, no-cache, no-store, must-revalidate"
    ]


def require_error(
    answer: Answer,
    status: int,
    reason: str,
    message: str | None,
    *,
    word: str = "error",
    kind: str | None = None,
    run_id: int = 0,
) -> dict[str, Any]:
    """The one form of errors (3); ``message`` None leaves its text to the caller."""
    assert answer.status == status, answer
    require_headers(answer)
    body: dict[str, Any] = answer.body
    assert set(body) == ERROR_KEYS
    assert body["status"] == word
    assert body["error"] == kind or ("User error" if status < 500 else "Application error")
    assert body["code"] == status
    assert body["reason"] == reason
    if message is None:
        assert isinstance(body["message"], str) and body["message"]
    else:
        assert body["message"] == message
    assert re.fullmatch("provisioning-[0-9a-f]{32}", body["exceptionId"])
    assert type(body["runId"]) is int and body["runId"] == run_id
    require_retry_after(answer)
    return body


def require_retry_after(answer: Answer) -> None:
    """Whole seconds on every 503 and 429, and nothing on other answers (3, rule 2)."""
    found = answer.headers.get("Retry-After")
    if answer.status not in (429, 503):
        assert found is None
        return
    assert found is not None and re.fullmatch("[1-9][0-9]*", found)


def require_not_found(answer: Answer) -> None:
    """An id nobody may see, whatever the cause (4.3)."""
    require_error(answer, 404, "credentials_not_found", NO_SUCH_CREDENTIALS)


def require_unavailable(answer: Answer, backend: str = "mysql") -> None:
    """A server that is down (3)."""
    message = f"Backend '{backend}' is not available, try again later."
    require_error(answer, 503, "backend_unavailable", message)


def accepted_job(answer: Answer) -> int:
    """The 202 of work that goes on; return its job id (7.3)."""
    assert answer.status == 202, answer
    require_headers(answer)
    body = answer.body
    assert set(body) == {"id", "url", "status"}
    assert type(body["id"]) is int
    assert body["status"] in ("waiting", "processing")
    assert body["url"].endswith(f"/queue/job/{body['id']}")
    return int(body["id"])


def finished_job(client: Client, job_id: int) -> dict[str, Any]:
    """Return the record of a job once it is finished, by long polls."""

    def poll() -> dict[str, Any] | None:
        answer = client.get(f"/queue/job/{job_id}?wait=30")
        assert answer.status == 200, answer
        return dict(answer.body) if answer.body["isFinished"] else None

    record = wait_until(poll, timeout=LONG_DEADLINE, what=f"the end of job {job_id}")
    assert record is not None
    return record


def read(client: Client) -> Answer:
    """The cheapest call that needs a token: 404 when the token is good and owns nothing."""
    return client.get("/provisioning/mysql?type=sandbox")


def require_invalid(answer: Answer) -> None:
    """A token that is refused (3)."""
    require_error(answer, 401, "token_invalid", "Invalid StorageApi Token")


def require_no_verification(answer: Answer) -> None:
    """A Storage API that is away (3)."""
    message = "Token verification is not available, try again later."
    require_error(answer, 503, "token_service_unavailable", message)
