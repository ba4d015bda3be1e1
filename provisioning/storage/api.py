"""Calls of the Storage API with one caller's token, under one job's run id."""

import json
import logging
import time
from typing import Any
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from provisioning.configuration.secrets import Secret
from provisioning.state.formats import read_id
from provisioning.storage.base import StorageRefused, StorageUnavailable
from provisioning.storage.http import AnswerTooLarge, AnswerUnreadable, read_body
from provisioning.storage.retries import Interrupted, Pause, Timeouts, retry_interrupted

#: Bytes; the list of a project's widest table or of a file's slices stays below.
LARGEST_ANSWER = 32 * 1024 * 1024
LONGEST_MESSAGE = 2000

Fields = list[tuple[str, str]]


def open_session() -> requests.Session:
    """Return a session whose library does not log addresses, which carry signatures."""
    logging.getLogger("urllib3").setLevel(logging.INFO)
    return requests.Session()


def resource(*segments: str) -> str:
    """Return the path of a resource; an id never leads to another resource."""
    for segment in segments:
        if segment in ("", ".", "..") or not _is_unicode(segment):
            raise StorageRefused(f"{segment!r} is not an id.")
    return "/".join(quote(segment, safe="") for segment in segments)


def need(answer: dict[str, Any], *keys: str) -> Any:
    """Return a nested value of an answer; raise ``StorageUnavailable`` if it is not there."""
    value: Any = answer
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            raise StorageUnavailable(f"The Storage API answered without {'.'.join(keys)}.")
    return value


def need_id(answer: dict[str, Any], *keys: str) -> int:
    """Return a nested number, which may be written as a string."""
    found = read_id(str(need(answer, *keys)))
    if found is None:
        raise StorageUnavailable(f"The Storage API answered with a strange {'.'.join(keys)}.")
    return found


def error_message(answer: Any) -> str:
    """Return the text that an answer gives for an error, or ''."""
    if not isinstance(answer, dict):
        return ""
    for key in ("error", "message"):
        said = answer.get(key)
        if isinstance(said, dict):
            said = said.get("message")
        if isinstance(said, str) and said:
            return said
    return ""


class StorageApi:
    """Calls ``{url}/v2/storage``.

    Repeats 5xx answers and lost connections, and raises ``StorageRefused`` or
    ``StorageUnavailable``. Redirects are not followed: the token is for this host alone.
    """

    def __init__(
        self,
        session: requests.Session,
        url: str,
        token: Secret,
        run_id: str,
        timeouts: Timeouts,
        pause: Pause,
    ) -> None:
        self._session = session
        self._root = url.rstrip("/") + "/v2/storage"
        self._token = token
        self._headers = {"X-StorageApi-Token": token.reveal().encode("latin-1")}
        if run_id:
            self._headers["X-KBC-RunId"] = run_id.encode()
        self._timeouts = timeouts
        self._pause = pause

    def get_object(self, path: str, parameters: Fields | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("GET", path, parameters or [], dict)
        return answer

    def get_list(self, path: str, parameters: Fields | None = None) -> list[Any]:
        answer: list[Any] = self._call("GET", path, parameters or [], list)
        return answer

    def post(self, path: str, form: Fields) -> dict[str, Any]:
        """Send a form and return the answer's object. A repeat may do the same thing twice."""
        answer: dict[str, Any] = self._call("POST", path, form, dict)
        return answer

    def send(self, path: str, form: Fields) -> None:
        """Send a form whose answer is only a status."""
        self._call("POST", path, form, object)

    def refusal(self, message: str, otherwise: str) -> StorageRefused:
        """Return the error with the storage's own words, which may quote what it was sent."""
        text = message.replace(self._token.reveal(), "********")[:LONGEST_MESSAGE]
        return StorageRefused(text or otherwise)

    def _call(self, method: str, path: str, fields: Fields, kind: type) -> Any:
        for name, value in fields:
            if not _is_unicode(value):
                raise StorageRefused(f"{name} cannot be {value!r}.")
        return retry_interrupted(
            lambda left: self._try(method, path, fields, kind, left),
            self._timeouts.retries,
            self._pause,
        )

    def _try(self, method: str, path: str, fields: Fields, kind: type, left: float) -> Any:
        called = f"The Storage API's {method} {path}"
        begin = time.monotonic()
        try:
            status, body = self._exchange(method, path, fields, min(self._timeouts.call, left))
        except AnswerTooLarge:
            raise StorageUnavailable(f"{called} was answered with too much.") from None
        except (requests.RequestException, HTTPError, AnswerUnreadable):
            raise Interrupted(f"{called} was not answered.", time.monotonic() - begin) from None
        answer = _parse(body)
        if 200 <= status < 300 and isinstance(answer, kind):
            return answer
        if 400 <= status < 500:
            raise self.refusal(error_message(answer), f"{called} answered {status}.")
        raise Interrupted(f"{called} answered {status}.", time.monotonic() - begin)

    def _exchange(
        self, method: str, path: str, fields: Fields, seconds: float
    ) -> tuple[int, bytes]:
        end = time.monotonic() + seconds
        with self._session.request(
            method,
            f"{self._root}/{path}",
            params=fields if method == "GET" else None,
            data=fields if method == "POST" else None,
            headers=self._headers,
            timeout=(min(self._timeouts.connect, seconds), seconds),
            allow_redirects=False,
            stream=True,
        ) as answer:
            return answer.status_code, read_body(answer, end, LARGEST_ANSWER)


def _is_unicode(text: str) -> bool:
    """Return whether a text can be sent. JSON may have halves of characters, which cannot."""
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
