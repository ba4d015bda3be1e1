"""TCP ports on the loopback address that stay ours while the server behind them is down."""

import contextlib
import socket
from pathlib import Path

HOST = "127.0.0.1"


class HeldPort:
    """A port chosen by the operating system and held by a bound socket that does not listen.

    Servers bind with SO_REUSEADDR, so they can listen on a port held this way while the system
    gives it to nobody else. This closes the race between choosing and binding, keeps the address
    of a server that is killed and started again, and makes connections to a stopped server fail
    at once. Only a program that insists on this very number can take it; then the server's own
    bind fails and the caller takes another port.
    """

    def __init__(self, wanted: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, wanted))
        except OSError:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Give the port back to the system."""
        self._socket.close()


def hold_port(remembered: Path) -> HeldPort:
    """Hold the port that `remembered` names if it is free, otherwise one from the system."""
    with contextlib.suppress(OSError, ValueError, OverflowError):
        return HeldPort(int(remembered.read_text()))
    return HeldPort()


def accepts_connections(number: int) -> bool:
    """Whether somebody listens on the port."""
    try:
        socket.create_connection((HOST, number), timeout=2).close()
    except OSError:
        return False
    return True
