"""The web server: Gunicorn's threads, which are given whole requests only.

The main loop of each process reads all connections; a thread is taken when a request is there, head
and body, and when it is its caller's turn (`api.turns`). So callers that send slowly, or many
requests that wait, take nothing that a short request of another one needs.
"""

import contextlib
import errno
import selectors
import socket
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from gunicorn.http import get_parser
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.gthread import ThreadWorker

from api.errors import (
    BodyTooLarge,
    HeadersTooLarge,
    LineTooLong,
    NotHTTP,
    Overloaded,
    RequestTooSlow,
    status_of,
)
from api.framing import BodyTooLong, ChunkedEnd, LengthEnd
from api.requests import ARRIVED, PASS_ON, VERIFIED
from api.responses import INTERNAL_MESSAGE, cause_of, error_bytes
from api.turns import TURN, Turns
from provisioning.configuration.config import Config
from provisioning.errors import ProvisioningError
from provisioning.jobs.outcomes import new_exception_id

log = structlog.get_logger()

#: Bytes that are taken from a connection at once.
PART = 65536
#: Bytes of the largest head.
HEAD = 65536
#: Bodies of the largest size for which a process has memory.
BODIES = 8
#: Seconds a request waits for a thread before it is refused.
PATIENCE = 10
#: Seconds that a stopping process leaves for the answers to requests that still wait.
ANSWERING = 10
#: Seconds a caller may take to read what is sent at once.
READING = 30
#: Seconds, and bytes, for which a caller that was answered may go on sending.
LINGER, LINGER_BYTES = 2, 65536
#: Requests with the same value of one of these are of one caller, once the value was a good one;
#: all others are of another one.
TOKENS, STRANGERS = ("X-STORAGEAPI-TOKEN", "X-KBC-MANAGEAPITOKEN"), -1
#: Callers that a process knows.
KNOWN = 10_000


class Connection:
    """A connection of a caller, and the request that it is about to send."""

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock, self.client, self.server = sock, client, server
        #: What was received and does not belong to a request that was read.
        self.received = bytearray()
        self.await_request(0)

    def await_request(self, deadline: float) -> None:
        """Forget the last request; ``deadline`` is when the next one must have begun."""
        self.deadline = deadline
        self.arrived = 0.0
        #: Gunicorn's, when its head is there, and what finds the end of its body.
        self.request: Any = None
        self.end: LengthEnd | ChunkedEnd | None = None
        self.caller = 0
        #: Bytes of the request, which take memory until it is answered.
        self.size = 0
        #: How much of ``received`` is known not to have the end of a head.
        self.searched = 0


class Worker(ThreadWorker):  # type: ignore[misc]
    """A process that answers requests.

    Told to stop, it is not ready any more, but accepts for a while (DRAIN_SECONDS), and ends each
    connection with its answer. Then it closes, and answers what it has.
    """

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self._config: Config = self.wsgi.extensions["installation"].config
        threads = self.cfg.threads + self._config.waiting_requests
        self.tpool = ThreadPoolExecutor(threads)
        self._turns: Turns[Connection] = Turns(self.cfg.threads, threads)
        #: Connections whose request is not there yet; the one that waits longest is first.
        self._reading: OrderedDict[Connection, None] = OrderedDict()
        #: Those that were answered and are to be closed.
        self._lingering: OrderedDict[Connection, int] = OrderedDict()
        self._buffered = 0
        self._known: OrderedDict[int, None] = OrderedDict()

    def run(self) -> None:
        """Serve until the process is told to stop; then answer what has been accepted."""
        self.poller.register(
            self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks
        )
        self.set_accept_enabled(True)
        while self.alive and self.is_parent_alive():
            self._serve_and_accept()
        end = time.monotonic() + self.cfg.graceful_timeout
        room = self.wsgi.extensions["waiting_room"]
        self._drain()
        room.end_streams()
        for connection in self._reading:
            if not connection.arrived:
                # A caller may be about to send a request on a connection that was kept open.
                connection.deadline = min(connection.deadline, time.monotonic() + LINGER)
        while self.nr_conns > 0 and time.monotonic() < end:
            self._serve()
            if time.monotonic() > end - ANSWERING:
                room.end_waits()
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()

    def _drain(self) -> None:
        """Go on until load balancers have noticed; then take no more connections."""
        self.wsgi.extensions["stopping"].set()
        noticed = time.monotonic() + self._config.drain_seconds
        while time.monotonic() < noticed and self.is_parent_alive():
            self._serve_and_accept()
        self.set_accept_enabled(False)
        for listener in self.sockets:
            # What waits to be accepted would be reset.
            while self.accept(listener):
                pass
            listener.close()

    def _serve_and_accept(self) -> None:
        self._serve()
        self.set_accept_enabled(self.nr_conns < self.worker_connections or bool(self._reading))

    def _serve(self) -> None:
        self.notify()
        # Turns end and deadlines pass with nothing happening on a connection.
        self.wait_for_and_dispatch_events(TURN / 5 if len(self._turns) else TURN)
        now = time.monotonic()
        for connection in [one for one in self._reading if one.deadline <= now]:
            self._refuse_slow(connection)
        for connection in [one for one in self._lingering if one.deadline <= now]:
            self._close(connection)
        for connection in self._turns.give_up(PATIENCE):
            self._refuse(connection, Overloaded())
        self._turns.pass_on_late()
        self._start_requests()

    # Connections ----------------------------------------------------------------------

    def accept(self, listener: Any) -> bool:
        """Take a new connection; return whether there was one.

        When there are too many, the one that waits longest goes.
        """
        try:
            sock, client = listener.accept()
        except OSError as problem:
            if problem.errno in (errno.EMFILE, errno.ENFILE) and self._reading:
                self._evict()
            return False
        sock.setblocking(False)
        self.nr_conns += 1
        connection = Connection(sock, client, listener.getsockname())
        connection.await_request(time.monotonic() + self._config.request_head_seconds)
        if self.nr_conns > self.worker_connections and self._reading:
            self._evict()
        self._await(connection)
        # Most have sent their request already.
        self._receive(connection)
        return True

    def _evict(self) -> None:
        """Close the connection that has waited longest for its request."""
        connection = next(iter(self._reading))
        if connection.arrived:
            self._send_error(connection, Overloaded(cause="too many connections"))
        self._close(connection)

    def _await(self, connection: Connection) -> None:
        self._reading[connection] = None
        self.poller.register(
            connection.sock, selectors.EVENT_READ, lambda _: self._receive(connection)
        )

    def _stop_reading(self, connection: Connection) -> None:
        if connection in self._reading:
            del self._reading[connection]
            self.poller.unregister(connection.sock)

    def _receive(self, connection: Connection) -> None:
        """Take what has come; it may be all of a request."""
        if connection not in self._reading:
            # It made room for another one a moment ago.
            return
        part = _take(connection)
        if part is None:
            return
        if not part:
            self._close(connection)
            return
        connection.received += part
        self._read(connection, len(part))

    def _read(self, connection: Connection, more: int) -> None:
        """Read on in a request of which so many bytes more have come."""
        if not connection.arrived:
            connection.arrived = time.monotonic()
            connection.deadline = connection.arrived + self._config.request_head_seconds
            self._reading.move_to_end(connection)
        connection.size += more
        self._buffered += more
        try:
            whole = self._has_head(connection) and self._has_body(connection)
        except ProvisioningError as error:
            self._refuse(connection, error)
            return
        if whole:
            self._stop_reading(connection)
            self._turns.add(connection.caller, connection)
            self._start_requests()
        elif self._buffered > BODIES * self._config.body_limit_bytes:
            # The one that waits longest for its body makes room.
            waiting = (one for one in self._reading if one.request is not None)
            full = Overloaded(cause="too many large bodies are being received")
            self._refuse(next(waiting, connection), full)

    def _has_head(self, connection: Connection) -> bool:
        """Return whether the head is there, which is read then; raise what refuses it."""
        if connection.request is not None:
            return True
        received = connection.received
        end = received.find(b"\r\n\r\n", max(connection.searched - 3, 0))
        if end < 0:
            connection.searched = len(received)
            line = received.find(b"\r\n", 2)
            if max(line, len(received) if line < 0 else 0) > self.cfg.limit_request_line + 2:
                raise LineTooLong
            if len(received) > HEAD:
                raise HeadersTooLarge
            return False
        head = bytes(received[: end + 4])
        del received[: end + 4]
        try:
            request = next(get_parser(self.cfg, [head], connection.client))
        except LimitRequestLine:
            raise LineTooLong from None
        except LimitRequestHeaders:
            raise HeadersTooLarge from None
        except (ParseException, StopIteration, OSError):
            raise NotHTTP from None
        connection.request = request
        token = next((value for name, value in request.headers if name in TOKENS), "")
        caller = hash(token)
        connection.caller = caller if not token or caller in self._known else STRANGERS
        reader = request.body.reader
        limit = self._config.body_limit_bytes
        if isinstance(reader, LengthReader):
            connection.end = LengthEnd(reader.length)
            if reader.length > limit + 1:
                # The application refuses it without reading it.
                connection.end = LengthEnd(0)
                request.force_close()
        else:
            connection.end = ChunkedEnd(limit)
        connection.deadline = time.monotonic() + self._config.request_body_seconds
        return True

    def _has_body(self, connection: Connection) -> bool:
        """Return whether the body is there, which the request gets then."""
        request, received = connection.request, connection.received
        assert connection.end is not None
        try:
            end = connection.end.find(received)
        except BodyTooLong:
            raise BodyTooLarge(self._config.body_limit_bytes) from None
        if end is None:
            if request._expected_100_continue:
                request._expected_100_continue = False
                with contextlib.suppress(OSError):
                    connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        request._expected_100_continue = False
        request.unreader.unread(bytes(received[:end]))
        del received[:end]
        return True

    def _linger(self, connection: Connection) -> None:
        """Close a connection, but not before the caller can have read its answer.

        What it still sends would have its system throw the answer away.
        """
        self._forget(connection)
        try:
            connection.sock.setblocking(False)
            connection.sock.shutdown(socket.SHUT_WR)
            self.poller.register(
                connection.sock, selectors.EVENT_READ, lambda _: self._discard(connection)
            )
        except (OSError, ValueError):
            self._close(connection)
            return
        connection.deadline = time.monotonic() + LINGER
        self._lingering[connection] = 0
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        if connection not in self._lingering:
            return
        part = _take(connection)
        if part is None:
            return
        self._lingering[connection] += len(part)
        if not part or self._lingering[connection] > LINGER_BYTES:
            self._close(connection)

    def _forget(self, connection: Connection) -> None:
        """Give back what the request of a connection takes."""
        self._buffered -= connection.size
        connection.size = 0
        self._stop_reading(connection)

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        if connection in self._lingering:
            del self._lingering[connection]
            self.poller.unregister(connection.sock)
        connection.sock.close()
        self.nr_conns -= 1

    # Requests -------------------------------------------------------------------------

    def _start_requests(self) -> None:
        for connection in self._turns.start():
            future = self.tpool.submit(self._answer, connection)
            future.add_done_callback(partial(self._answered, connection))

    def _answered(self, connection: Connection, future: "Future[bool]") -> None:
        self.method_queue.defer(self._go_on, connection, future)

    def _answer(self, connection: Connection) -> bool:
        """Answer a request, in a thread; return whether another one may follow it."""
        request = connection.request
        connection.sock.settimeout(READING)
        ARRIVED.set(connection.arrived)
        PASS_ON.set(partial(self.method_queue.defer, self._pass_on, connection))
        VERIFIED.set(self._verified)
        try:
            if isinstance(request.body.reader, ChunkedReader):
                content = request.body.read()
                request.body = Body(LengthReader(IterUnreader([content]), len(content)))
            return bool(self.handle_request(request, connection))
        except ParseException:
            self._send_error(connection, NotHTTP())
        except (OSError, StopIteration):
            # The caller has gone, or it was sent a part of an answer that ended in an error.
            pass
        except Exception as problem:
            log.error("answer_failed", problem=type(problem).__name__)
            self._send_error(connection, ProvisioningError(INTERNAL_MESSAGE))
        return False

    def _verified(self, token: str) -> None:
        if hash(token) not in self._known:
            self.method_queue.defer(self._know, hash(token))

    def _know(self, caller: int) -> None:
        self._known[caller] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _pass_on(self, connection: Connection) -> None:
        self._turns.pass_on(connection)
        self._start_requests()

    def _go_on(self, connection: Connection, future: "Future[bool]") -> None:
        """Wait for the next request of a connection, or end it."""
        self._turns.end(connection.caller, connection)
        if future.exception() is not None or not future.result():
            self._linger(connection)
        else:
            self._forget(connection)
            connection.sock.setblocking(False)
            wait = self.cfg.keepalive if self.alive else LINGER
            connection.await_request(time.monotonic() + wait)
            self._await(connection)
            if connection.received:
                self._read(connection, len(connection.received))
        self._start_requests()

    # Refusals -------------------------------------------------------------------------

    def _refuse_slow(self, connection: Connection) -> None:
        if not connection.arrived:
            # Nobody has asked for anything.
            self._close(connection)
        elif connection.request is None:
            self._refuse(connection, RequestTooSlow(self._config.request_head_seconds))
        else:
            self._refuse(connection, RequestTooSlow(self._config.request_body_seconds))

    def _refuse(self, connection: Connection, error: ProvisioningError) -> None:
        self._send_error(connection, error)
        self._linger(connection)

    def _send_error(self, connection: Connection, error: ProvisioningError) -> None:
        """Send an error that the application knows nothing of, in its form."""
        status, exception_id = status_of(error), new_exception_id()
        log.info(
            "request_refused",
            status=status,
            reason=error.reason,
            exception_id=exception_id,
            **cause_of(error),
        )
        with contextlib.suppress(OSError):
            connection.sock.send(
                error_bytes(error, status, exception_id, self._config.retry_after_seconds)
            )


def _take(connection: Connection) -> bytes | None:
    """Return what has come on a connection: nothing at its end, None as long as there is none."""
    try:
        return connection.sock.recv(PART)
    except BlockingIOError:
        return None
    except OSError:
        return b""
