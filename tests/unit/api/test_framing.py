"""The end of a body is found without reading what it says."""

import pytest

from api.framing import LONGEST_LINE, BodyTooLong, ChunkedEnd, LengthEnd

LIMIT = 100


def test_a_body_is_as_long_as_its_head_says() -> None:
    assert LengthEnd(0).find(bytearray(b"next")) == 0
    assert LengthEnd(3).find(bytearray(b"ab")) is None
    assert LengthEnd(3).find(bytearray(b"abcd")) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\n\r\n\r\r\n2;a=b\r\n0\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"1\r\na\r\n0;last\r\nA: b\r\nC: d\r\n\r\n",
    ],
)
def test_chunks_end_where_the_last_one_does(body: bytes) -> None:
    end = ChunkedEnd(LIMIT)
    received = bytearray()
    for byte in body[:-1]:
        received.append(byte)
        assert end.find(received) is None
    received += body[-1:] + b"GET"
    assert end.find(received) == len(body)
    assert ChunkedEnd(LIMIT).find(bytearray(body) + b"GET") == len(body)


@pytest.mark.parametrize(
    "body", [b"\r\n", b"x\r\n", b"-1\r\n", b"3\r\nabc\r\n-9\r\n", b"1" * (LONGEST_LINE + 1)]
)
def test_what_is_no_chunk_is_left_to_the_parser(body: bytes) -> None:
    assert ChunkedEnd(LIMIT).find(bytearray(body)) == len(body)


@pytest.mark.parametrize(
    "body",
    [
        b"65\r\n" + b"a" * 101,
        b"33\r\n" + b"a" * 51 + b"\r\n33\r\n" + b"a" * 51,
        b"fffffffff\r\n" + b"a" * 101,
        b"1;" + b"x" * 8000 + b"\r\na\r\n1;" + b"x" * 8000 + b"\r\na\r\n",
    ],
)
def test_a_body_over_the_limit_is_not_awaited(body: bytes) -> None:
    with pytest.raises(BodyTooLong):
        ChunkedEnd(LIMIT).find(bytearray(body))


def test_a_chunk_up_to_the_limit_is_awaited() -> None:
    assert ChunkedEnd(LIMIT).find(bytearray(b"64\r\n" + b"a" * 100)) is None
