"""Bodies of answers, read with a bound on their time and on their size."""

import time

import requests


class AnswerUnreadable(Exception):
    """The body was not there in time."""


class AnswerTooLarge(AnswerUnreadable):
    """The body was larger than any that is expected."""


def read_body(answer: requests.Response, end: float, largest: int) -> bytes:
    """Return the body of a streamed answer.

    Raises ``AnswerUnreadable``, also when it is not there by the monotonic time ``end``: the
    library's own time-out starts anew with every byte.
    """
    body = bytearray()
    while part := answer.raw.read1(largest, decode_content=True):
        body += part
        if time.monotonic() > end:
            raise AnswerUnreadable
        if len(body) > largest:
            raise AnswerTooLarge
    return bytes(body)
