"""The connector's HTTP protocol: which path asks for what, and the form of the answers."""

import gzip
import json
import re
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from snowflake_simulator import errors
from snowflake_simulator.account import Account
from snowflake_simulator.dispatcher import Dispatcher
from snowflake_simulator.errors import SnowflakeError
from snowflake_simulator.execution import Execution
from snowflake_simulator.faults import Faults
from snowflake_simulator.logins import log_in
from snowflake_simulator.queries import Query
from snowflake_simulator.results import Result, encode_rows
from snowflake_simulator.sessions import Session
from snowflake_simulator.statements.functions import VERSION

HOST = "127.0.0.1"
#: Statements that can run at the same time.
WORKERS = 256
#: Statements that were answered before they ended, and wait to be asked for again.
UNFETCHED = 1000
_IN_PROGRESS, _IN_PROGRESS_ASYNC = "333333", "333334"
_HEARTBEAT_SECONDS = 45
_TOKEN = re.compile(r'Token="([^"]*)"')
_RESULT_PATH = re.compile(r"/queries/([0-9a-f-]+)/result\Z")
# The connector writes two slashes here.
_MONITOR_PATH = re.compile(r"/monitoring/queries/+([0-9a-f-]+)\Z")

Answer = dict[str, Any]


class Protocol:
    """Answers requests, one call per request, from many threads."""

    def __init__(
        self, account: Account, dispatcher: Dispatcher, faults: Faults, answer_seconds: float
    ) -> None:
        self._account = account
        self._dispatcher = dispatcher
        self.faults = faults
        #: Seconds after which a running statement is answered with where to ask again.
        self._answer_seconds = answer_seconds
        self._workers = ThreadPoolExecutor(WORKERS, "statement")
        self._unfetched: OrderedDict[str, tuple[Query, Future[Result]]] = OrderedDict()

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    def answer(self, method: str, target: str, headers: Any, body: Any) -> Answer | None:
        """Return the answer to a request; None for a path that the server does not have."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        token = _TOKEN.search(headers.get("Authorization") or "")
        secret = token[1] if token else ""
        try:
            match (method, url.path):
                case ("POST", "/session/v1/login-request"):
                    return self._log_in(body["data"], query)
                case ("POST", "/session/token-request"):
                    return self._renew(secret, body)
                case ("POST", "/telemetry/send"):
                    return _success(None)
                case ("POST", "/session") if query.get("delete") == "true":
                    return self._log_out(secret)
            session = self._account.sessions.find(secret)
            match (method, url.path):
                case ("POST", "/queries/v1/query-request"):
                    return self._query(session, body)
                case ("POST", "/queries/v1/abort-request"):
                    return self._abort(session)
                case ("POST" | "GET", "/session/heartbeat"):
                    return _success(None)
                case ("GET", path) if found := _RESULT_PATH.match(path):
                    return self._result(session, found[1])
                case ("GET", path) if found := _MONITOR_PATH.match(path):
                    return self._monitor(found[1])
        except SnowflakeError as error:
            answer = _failure(error)
            if url.path == "/session/token-request":
                # The connector takes any data here for a token.
                answer["data"] = None
            return answer
        return None

    # Sessions ------------------------------------------------------------------------

    def _log_in(self, data: dict[str, Any], wanted: dict[str, str]) -> Answer:
        session = log_in(self._account, data, wanted)
        sessions = self._account.sessions
        return _success(
            {
                "token": session.token,
                "masterToken": session.master_token,
                "validityInSeconds": sessions.validity,
                "masterValidityInSeconds": sessions.master_validity,
                "displayUserName": session.user.name,
                "serverVersion": VERSION,
                "firstLogin": False,
                "healthCheckInterval": _HEARTBEAT_SECONDS,
                "sessionId": session.id,
                "parameters": _parameters(session),
                "sessionInfo": {
                    f"{key}Name": value for key, value in self._context(session).items()
                },
            }
        )

    def _context(self, session: Session) -> dict[str, str | None]:
        with self._account.lock:
            nothing = Query(session, "", self._account.clock.now())
            execution = Execution(self._account, session, nothing)
            return {
                "database": execution.current_database,
                "schema": execution.current_schema,
                "warehouse": execution.current_warehouse,
                "role": session.role,
            }

    def _renew(self, master_token: str, body: dict[str, Any]) -> Answer:
        session = self._account.sessions.renew(master_token, str(body.get("oldSessionToken")))
        sessions = self._account.sessions
        return _success(
            {
                "sessionToken": session.token,
                "validityInSecondsST": sessions.validity,
                "masterToken": session.master_token,
                "validityInSecondsMT": sessions.master_validity,
                "masterValidityInSeconds": sessions.master_validity,
                "sessionId": session.id,
            }
        )

    def _log_out(self, token: str) -> Answer:
        self._account.end_session(self._account.sessions.find(token))
        return _success(None)

    # Statements ----------------------------------------------------------------------

    def _query(self, session: Session, body: dict[str, Any]) -> Answer:
        sql = str(body.get("sqlText") or "")
        query = self._dispatcher.begin(session, sql)
        future = self._workers.submit(self._dispatcher.run, query, sql, body.get("bindings") or {})
        if body.get("asyncExec"):
            return self._postpone(_IN_PROGRESS_ASYNC, query, future)
        return self._finish(query, future)

    def _finish(self, query: Query, future: Future[Result]) -> Answer:
        try:
            result = future.result(self._answer_seconds)
        except StillRunning:
            return self._postpone(_IN_PROGRESS, query, future)
        except SnowflakeError as error:
            return _failure(error, query)
        context = self._context(query.session)
        return _success(
            {
                "queryId": query.id,
                "rowtype": [column.described() for column in result.columns],
                "rowset": encode_rows(result),
                "total": len(result.rows),
                "returned": len(result.rows),
                "queryResultFormat": "json",
                "statementTypeId": result.statement_type,
                "version": 1,
                "numberOfBinds": 0,
                "arrayBindSupported": False,
                "parameters": [
                    {"name": name, "value": value} for name, value in result.parameters.items()
                ],
                **{f"final{key.capitalize()}Name": value for key, value in context.items()},
            }
        )

    def _postpone(self, code: str, query: Query, future: Future[Result]) -> Answer:
        """Tell the client to ask for the result later."""
        self._unfetched[query.id] = (query, future)
        while len(self._unfetched) > UNFETCHED:
            self._unfetched.popitem(last=False)
        data = {"queryId": query.id, "getResultUrl": f"/queries/{query.id}/result"}
        return {"success": True, "code": code, "message": "Query in progress.", "data": data}

    def _result(self, session: Session, query_id: str) -> Answer | None:
        found = self._unfetched.pop(query_id, None)
        if found is None or found[0].session.user is not session.user:
            return None
        return self._finish(*found)

    def _monitor(self, query_id: str) -> Answer:
        query = self._account.queries.find(query_id)
        known = [] if query is None else [{"id": query.id, "status": query.status}]
        return _success({"queries": known})

    def _abort(self, session: Session) -> Answer:
        """Cancel what the session runs; the request's own identifier is not looked at."""
        self._account.queries.cancel(lambda query: query.session is session)
        return _success(None)


def _parameters(session: Session) -> list[dict[str, Any]]:
    names = ("AUTOCOMMIT", "TIMEZONE", "STATEMENT_TIMEOUT_IN_SECONDS")
    parameters = [{"name": name, "value": session.parameter(name)} for name in names]
    return [
        *parameters,
        {"name": "CLIENT_SESSION_KEEP_ALIVE", "value": False},
        {"name": "CLIENT_TELEMETRY_ENABLED", "value": False},
        {"name": "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT", "value": "JSON"},
    ]


def _success(data: Any) -> Answer:
    return {"success": True, "code": None, "message": None, "data": data}


def _failure(error: SnowflakeError, query: Query | None = None) -> Answer:
    data = {"errorCode": error.code, "sqlState": error.sqlstate, "internalError": False}
    if query is not None:
        data |= {"queryId": query.id, "line": -1, "pos": -1, "type": "COMPILATION"}
    return {"success": False, "code": error.code, "message": error.message, "data": data}


class Server(ThreadingHTTPServer):
    """Serves the protocol on loopback, a thread per connection."""

    daemon_threads = True
    # Connectors log in by the dozen; the default queue holds five.
    request_queue_size = 256

    def __init__(self, port: int, protocol: Protocol) -> None:
        self.protocol = protocol
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "SnowflakeSimulator/0.0"
    # Headers and body leave in one segment: the kernel delays a body that follows its headers.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        protocol = self.server.protocol
        protocol.faults.wait_to_answer()
        try:
            parsed = json.loads(body) if body else {}
        except ValueError:
            self._send(400, _failure(errors.syntax_error(0, "")))
            return
        answer = protocol.answer(method, self.path, self.headers, parsed)
        self._send(404 if answer is None else 200, answer or _success(None))

    def _send(self, status: int, answer: Answer) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep standard error for what is wrong."""
