"""A stand-in for RStudio Server's login contract. It is not RStudio Server and says so.

A sign-in form with a token against forged requests; after it, a page that lists the sandbox's
files and runs R on what is typed into it. One process for each run: nothing is remembered.
"""

import html
import http.cookies
import json
import secrets
import ssl
import subprocess
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from sandbox_access import certificate, may_log_in

PORT = 8787
DATA = Path("/data")
ACTIVITY = Path("/tmp/sandbox-activity.json")
LONGEST_BODY = 1 << 20
LONGEST_RUN_SECONDS = 300
PAGE = """<!doctype html><html lang="en"><head><title>RStudio stand-in</title></head><body>
<h1>R sandbox</h1><p>This is a small stand-in for RStudio Server, not RStudio Server.</p>
{}</body></html>"""
SIGN_IN = """<form method="post" action="/auth-do-sign-in"><p>{message}</p>
<input type="hidden" name="csrf-token" value="{token}">
<p><label>Username <input name="username" autofocus></label></p>
<p><label>Password <input name="password" type="password"></label></p>
<p><button>Sign in</button></p></form>"""
WORKSPACE = """<form method="post" action="/run">
<input type="hidden" name="csrf-token" value="{token}">
<p><textarea name="code" rows="16" cols="100">{code}</textarea></p>
<p><button>Run</button></p></form><pre>{output}</pre><h2>Files</h2><pre>{files}</pre>"""


class Activity:
    """How many runs there are and when the last one began or ended, for `sandbox-activity`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._last: str | None = None
        self._write()

    def changed(self, by: int) -> None:
        """Note the beginning (1) or the end (-1) of a run."""
        with self._lock:
            self._running += by
            self._last = datetime.now(UTC).isoformat(timespec="seconds")
            self._write()

    def _write(self) -> None:
        fresh = ACTIVITY.with_suffix(".new")
        fresh.write_text(json.dumps({"busyKernels": self._running, "lastActivity": self._last}))
        fresh.replace(ACTIVITY)


class Handler(BaseHTTPRequestHandler):
    """The pages; sessions live as long as the server."""

    activity: Activity
    sessions: set[str] = set()

    def do_GET(self) -> None:
        """The sign-in form or the workspace, and redirects to whichever is due."""
        if self.path == "/" and not self._is_signed_in():
            self._redirect("/auth-sign-in")
        elif self.path == "/":
            self._show_workspace(_script())
        elif self.path.partition("?")[0] == "/auth-sign-in":
            self._show_sign_in(HTTPStatus.OK, "Sign in to the sandbox")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """As GET; `_show` leaves the body out."""
        self.do_GET()

    def do_POST(self) -> None:
        """Sign in, or run R."""
        fields = self._fields()
        token = self._cookie("csrf-token")
        if not token or not secrets.compare_digest(fields.get("csrf-token", ""), token):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/auth-do-sign-in":
            self._sign_in(fields)
        elif self.path == "/run" and self._is_signed_in():
            code = fields.get("code", "")
            self._show_workspace(code, self._run(code))
        else:
            self.send_error(HTTPStatus.FORBIDDEN)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: requests are nobody's business, and errors go to the page."""

    def _sign_in(self, fields: dict[str, str]) -> None:
        if not may_log_in(fields.get("username", ""), fields.get("password", "")):
            self._show_sign_in(HTTPStatus.UNAUTHORIZED, "Incorrect or invalid username/password")
            return
        session = secrets.token_urlsafe(32)
        self.sessions.add(session)
        self._redirect("/", cookie=("session", session))

    def _run(self, code: str) -> str:
        self.activity.changed(1)
        try:
            done = subprocess.run(
                ["R", "--no-save", "--no-restore", "--quiet"],
                input=code + "\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=DATA,
                timeout=LONGEST_RUN_SECONDS,
            )
            return done.stdout
        except subprocess.TimeoutExpired:
            return f"ended after {LONGEST_RUN_SECONDS} s"
        finally:
            self.activity.changed(-1)

    def _show_sign_in(self, status: HTTPStatus, message: str) -> None:
        token = secrets.token_urlsafe(32)
        self._show(status, SIGN_IN.format(token=token, message=message), ("csrf-token", token))

    def _show_workspace(self, code: str, output: str = "") -> None:
        token = secrets.token_urlsafe(32)
        files = "\n".join(sorted(str(file) for file in DATA.rglob("*") if file.is_file()))
        texts = {"code": code, "output": output, "files": files}
        escaped = {name: html.escape(text) for name, text in texts.items()}
        self._show(HTTPStatus.OK, WORKSPACE.format(token=token, **escaped), ("csrf-token", token))

    def _show(self, status: HTTPStatus, content: str, cookie: tuple[str, str]) -> None:
        body = PAGE.format(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self._send_cookie(*cookie)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _redirect(self, target: str, cookie: tuple[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        if cookie:
            self._send_cookie(*cookie)
        self.end_headers()

    def _send_cookie(self, name: str, value: str) -> None:
        self.send_header("Set-Cookie", f"{name}={value}; HttpOnly; SameSite=Lax; Path=/")

    def _is_signed_in(self) -> bool:
        return self._cookie("session") in self.sessions

    def _cookie(self, name: str) -> str:
        found = http.cookies.SimpleCookie(self.headers.get("Cookie", "")).get(name)
        return found.value if found else ""

    def _fields(self) -> dict[str, str]:
        length = min(int(self.headers.get("Content-Length", 0)), LONGEST_BODY)
        sent = parse_qs(self.rfile.read(length).decode(), keep_blank_values=True)
        return {name: values[0] for name, values in sent.items()}


class Server(ThreadingHTTPServer):
    """One thread for each connection; a slow handshake holds up nobody else."""

    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the handshake in the connection's own thread."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a caller that hangs up is no news."""


def _script() -> str:
    script = DATA / "main.R"
    return script.read_text() if script.exists() else ""


def main() -> None:
    """Serve until ended."""
    Handler.activity = Activity()
    server = Server(("", PORT), Handler)
    server.context = certificate()
    server.serve_forever()


if __name__ == "__main__":
    main()
