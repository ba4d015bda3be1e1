"""A thin client of the Storage API: tokens and tickets."""

import json
import time
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from provisioning import errors
from provisioning.configuration.secrets import Secret
from provisioning.state.formats import read_id
from provisioning.storage.http import AnswerUnreadable, read_body

#: Text shown when a refusal of the Storage API carries none of its own.
NO_REASON = "The Storage API refused the token."

#: Bytes; a project with thousands of features stays far below.
LARGEST_ANSWER = 1024 * 1024


class StorageClient:
    """Calls ``{url}/v2/storage`` with the caller's token."""

    def __init__(self, url: str, timeout: float) -> None:
        self._root = url.rstrip("/") + "/v2/storage"
        self._timeout = timeout
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_connections=2, pool_maxsize=32)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def verify_token(self, token: Secret) -> dict[str, Any]:
        """Return the answer of ``GET tokens/verify`` (contract 5.1); raise as contract 5.2 says."""
        return self._call("GET", "tokens/verify", token)

    def create_ticket(self, token: Secret, run_id: str) -> int:
        """Return a new number of ``POST tickets`` (contract 9.2)."""
        answer = self._call(
            "POST", "tickets", token, {"X-KBC-RunId": run_id.encode()} if run_id else {}
        )
        number = read_id(str(answer.get("id")))
        if number is None:
            raise errors.TokenServiceUnavailable(cause="its answer has no ticket")
        return number

    def _call(
        self, method: str, path: str, token: Secret, headers: dict[str, bytes] | None = None
    ) -> dict[str, Any]:
        end = time.monotonic() + self._timeout
        try:
            with self._session.request(
                method,
                f"{self._root}/{path}",
                headers={"X-StorageApi-Token": token.reveal().encode("latin-1"), **(headers or {})},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as answer:
                return _interpret(answer.status_code, _read_object(answer, end))
        except (requests.RequestException, HTTPError, AnswerUnreadable) as problem:
            raise errors.TokenServiceUnavailable(cause=type(problem).__name__) from None


def _read_object(answer: requests.Response, end: float) -> dict[str, Any]:
    """Return the answer's JSON object; an empty one for anything else, which has no keys."""
    try:
        parsed = json.loads(read_body(answer, end, LARGEST_ANSWER))
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _interpret(status: int, body: dict[str, Any]) -> dict[str, Any]:
    if 200 <= status < 300 and body:
        return body
    message = next((str(body[key]) for key in ("error", "message") if body.get(key)), NO_REASON)
    if status == 401:
        raise errors.TokenInvalid
    if 400 <= status < 500:
        raise errors.TokenRefused(status, message)
    if status == 503 and body.get("status") == "maintenance":
        raise errors.ProjectDisabled(str(body.get("reason") or message))
    raise errors.TokenServiceUnavailable(cause=f"it answers {status}")
