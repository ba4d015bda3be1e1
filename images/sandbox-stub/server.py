"""A stub of a sandbox: the contract of sandbox images with nothing behind it.

It serves one page at the ports of Jupyter and of RStudio. `/login` answers 200 to the right user
and password (HTTP's basic authentication), 401 to others. The caller's script may ask for
misbehaviour by a line `# stub: WORD`:

    exits          ends at once with status 3
    never-ready    never listens
    slow           listens after two seconds
    fails          answers every request with status 500
    eats-memory    takes memory until it is ended
    ignores-stop   does not end when it is asked to
"""

import base64
import re
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from sandbox_access import certificate, may_log_in

PORTS = (8888, 8787)
SCRIPTS = (Path("/data/main.py"), Path("/data/main.R"))
PAGE = "<!doctype html><title>Stub</title><p>A stub in the place of Jupyter and RStudio.</p>"


def main() -> None:
    """Misbehave as asked, else serve."""
    wish = _wish()
    if wish == "exits":
        sys.exit("the script asked for this end")
    if wish == "never-ready":
        time.sleep(3600)
    if wish == "slow":
        time.sleep(2)
    if wish == "eats-memory":
        _eat_memory()
    if wish == "ignores-stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context = certificate()
    listeners = [socket.create_server(("", port), backlog=64) for port in PORTS]
    threads = [
        threading.Thread(target=_accept, args=(listener, context, wish == "fails"))
        for listener in listeners
    ]
    for thread in threads:
        thread.start()


def _wish() -> str:
    for script in SCRIPTS:
        found = script.exists() and re.search(r"^# stub: (\S+)", script.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return ""


def _eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**20)


def _accept(listener: socket.socket, context: ssl.SSLContext | None, fails: bool) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, context, fails), daemon=True).start()


def _serve(connection: socket.socket, context: ssl.SSLContext | None, fails: bool) -> None:
    """Answer requests until the caller hangs up."""
    with connection:
        try:
            stream = context.wrap_socket(connection, server_side=True) if context else connection
            with stream, stream.makefile("rb") as requests:
                while request := requests.readline():
                    headers = list(iter(requests.readline, b"\r\n"))
                    stream.sendall(_answer(request, headers, fails))
        except OSError:
            return


def _answer(request: bytes, headers: list[bytes], fails: bool) -> bytes:
    status = "500 Internal Server Error" if fails else "200 OK"
    if request.split()[1:2] == [b"/login"] and not _logs_in(headers):
        status = "401 Unauthorized"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n"
    return f"{head}{PAGE}".encode()


def _logs_in(headers: list[bytes]) -> bool:
    for header in headers:
        name, _, value = header.decode("latin-1").partition(": ")
        if name.lower() == "authorization":
            user, _, password = base64.b64decode(value.split()[1]).decode().partition(":")
            return may_log_in(user, password)
    return False


if __name__ == "__main__":
    main()
