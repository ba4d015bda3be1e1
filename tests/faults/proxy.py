"""A TCP proxy that can be gone: a server behind it is cut off without losing its memory."""

import contextlib
import socket
import threading

from devstack.ports import HOST, HeldPort

_CHUNK = 65_536


class Proxy:
    """Passes connections to a port of this machine on; its own port stays the same."""

    def __init__(self) -> None:
        self._held = HeldPort()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._ends: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return self._held.number

    def open(self, target: int) -> None:
        """Take connections from now on and pass them on to ``target``."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        listener.listen(256)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()

    def cut(self) -> None:
        """End all connections; new ones are refused."""
        with self._lock:
            ends, self._ends = self._ends, set()
            if self._listener is not None:
                ends.add(self._listener)
                self._listener = None
        for end in ends:
            _end(end)

    def close(self) -> None:
        self.cut()
        self._held.release()

    def _accept(self, listener: socket.socket, target: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                self._join(listener, near, target)

    def _join(self, listener: socket.socket, near: socket.socket, target: int) -> None:
        try:
            far = socket.create_connection((HOST, target))
        except OSError:
            near.close()
            return
        with self._lock:
            if listener is not self._listener:
                # Cut off since it was accepted.
                _end(near)
                _end(far)
                return
            self._ends |= {near, far}
        for pair in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                sink.sendall(chunk)
        for end in (source, sink):
            _end(end)
        with self._lock:
            self._ends -= {source, sink}


def _end(end: socket.socket) -> None:
    # Only this wakes a thread that waits for it.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
