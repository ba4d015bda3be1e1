"""Where the body of a request ends, before anybody reads it."""

#: Bytes of the line before a chunk, and of what may follow the last one.
LONGEST_LINE = 8190


class BodyTooLong(Exception):
    """The body is longer than the limit, whatever is still to come."""


class LengthEnd:
    """The end of a body that is as long as its head says."""

    def __init__(self, length: int) -> None:
        self._length = length

    def find(self, received: bytearray) -> int | None:
        """Return the length of the body at the start of ``received``, None if more is to come."""
        return self._length if len(received) >= self._length else None


class ChunkedEnd:
    """The end of a body in chunks. What is no such body ends where that shows."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: Where the next chunk's line begins, and the bytes of content before it.
        self._line = 0
        self._content = 0

    def find(self, received: bytearray) -> int | None:
        """Return the length of the body at the start of ``received``, None if more is to come.

        Raises ``BodyTooLong``.
        """
        while True:
            end = received.find(b"\r\n", self._line)
            if end < 0:
                return self._unless_too_long(received, self._line)
            size = _size(received[self._line : end])
            if size is None:
                return len(received)
            if size == 0:
                return self._find_trailers_end(received, end)
            following = end + 2 + size + 2
            if self._content + min(size, len(received) - end - 2) > self._limit:
                raise BodyTooLong
            # Chunks of a byte each are mostly lines.
            if len(received) > 2 * self._limit + LONGEST_LINE:
                raise BodyTooLong
            if following > len(received):
                return None
            self._line, self._content = following, self._content + size

    def _find_trailers_end(self, received: bytearray, line_end: int) -> int | None:
        if received[line_end + 2 : line_end + 4] == b"\r\n":
            return line_end + 4
        end = received.find(b"\r\n\r\n", line_end)
        return end + 4 if end >= 0 else self._unless_too_long(received, line_end)

    @staticmethod
    def _unless_too_long(received: bytearray, start: int) -> int | None:
        return len(received) if len(received) - start > LONGEST_LINE else None


def _size(line: bytearray) -> int | None:
    """Return the size that the line before a chunk tells; None if it is none."""
    try:
        size = int(line.partition(b";")[0].strip(), 16)
    except ValueError:
        return None
    return size if size >= 0 else None
