"""The HTTP side: packed bodies, heartbeats, long and asynchronous statements, many sessions."""

import gzip
import json
import socket
import threading
from http.client import HTTPConnection
from typing import Any

import pytest
import snowflake.connector

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import (
    ADMIN_PASSWORD,
    Connection,
    connect,
    password_of,
    wait_until_running,
)
from tests.support.deadlines import DEADLINE, ENDLESS, LONG_DEADLINE

LONG = f"CALL SYSTEM$WAIT({ENDLESS})"


class RawClient:
    """Speaks the protocol without the connector, over one kept connection."""

    def __init__(self, simulator: SnowflakeSimulator) -> None:
        self._connection = HTTPConnection(simulator.host, simulator.port, timeout=DEADLINE)
        self.token = ""
        self.status = 0

    def post(self, path: str, body: dict[str, Any], *, packed: bool = False) -> dict[str, Any]:
        content = json.dumps(body).encode()
        headers = {"Authorization": f'Snowflake Token="{self.token}"'}
        if packed:
            content = gzip.compress(content)
            headers["Content-Encoding"] = "gzip"
        self._connection.request("POST", path, content, headers)
        response = self._connection.getresponse()
        self.status = response.status
        answer: dict[str, Any] = json.loads(response.read())
        return answer

    def log_in(self) -> None:
        login = {"data": {"LOGIN_NAME": "ADMIN", "PASSWORD": ADMIN_PASSWORD}}
        answer = self.post("/session/v1/login-request", login, packed=True)
        self.token = answer["data"]["token"]

    def query(self, sql: str, **body: Any) -> dict[str, Any]:
        return self.post("/queries/v1/query-request?requestId=1", {"sqlText": sql, **body})

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def raw(simulator: SnowflakeSimulator) -> Any:
    client = RawClient(simulator)
    client.log_in()
    yield client
    client.close()


def test_heartbeat_of_a_live_and_a_dead_session(raw: RawClient) -> None:
    assert raw.post("/session/heartbeat", {})["success"]
    raw.post("/session?delete=true", {})
    answer = raw.post("/session/heartbeat", {})
    assert (answer["success"], answer["code"]) == (False, "390111")


def test_abort_request_cancels_what_runs(simulator: SnowflakeSimulator, raw: RawClient) -> None:
    other = RawClient(simulator)
    other.token = raw.token
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(other.query(LONG)))
    thread.start()
    wait_until_running(simulator, "ADMIN")
    raw.post("/queries/v1/abort-request?requestId=2", {"sqlText": "", "requestId": "1"})
    thread.join(DEADLINE)
    assert [answer["code"] for answer in answers] == ["000604"]
    other.close()


def test_values_bound_by_the_server(raw: RawClient) -> None:
    bindings = {
        "1": {"type": "TEXT", "value": "it's ?"},
        "2": {"type": "FIXED", "value": "7"},
        "3": {"type": "TEXT", "value": None},
    }
    answer = raw.query("SELECT ?, ?, ?", bindings=bindings)
    assert answer["data"]["rowset"] == [["it's ?", "7", None]]


def test_errors_name_code_state_and_query(raw: RawClient) -> None:
    answer = raw.query("SELECT * FROM d.s.t")
    assert answer["code"] == answer["data"]["errorCode"] == "002003"
    assert answer["data"]["sqlState"] == "02000"
    assert answer["data"]["queryId"]


def test_headers_and_body_leave_in_one_segment(simulator: SnowflakeSimulator) -> None:
    with socket.create_connection((simulator.host, simulator.port)) as client:
        client.sendall(b"POST /telemetry/send HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert client.recv(65536).endswith(b"}")


def test_unknown_paths_are_not_found(raw: RawClient) -> None:
    raw.post("/nowhere", {})
    assert raw.status == 404


def test_long_statements_are_asked_for_again() -> None:
    with SnowflakeSimulator("ADMIN", ADMIN_PASSWORD, answer_seconds=0.1) as simulator:
        connection = connect(simulator, "ADMIN", ADMIN_PASSWORD)
        assert connection.value("SELECT SYSTEM$WAIT(1)") == "waited 1 seconds"
        connection.close()


def test_asynchronous_statements(admin: Connection) -> None:
    with admin.inner.cursor() as cursor:
        cursor.execute_async("SELECT SYSTEM$WAIT(200, 'MILLISECONDS')")
        cursor.get_results_from_sfqid(cursor.sfqid)
        assert cursor.fetchall() == [("waited 200 milliseconds",)]


def test_keep_alive_option_of_the_connector(simulator: SnowflakeSimulator) -> None:
    connection = connect(simulator, "ADMIN", ADMIN_PASSWORD, client_session_keep_alive=True)
    assert connection.value("SELECT 1") == 1
    connection.close()


def test_twenty_sessions_at_once(simulator: SnowflakeSimulator, admin: Connection) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            connection = connect(simulator, "U1", password_of("U1"))
            connection.rows(f"CREATE TABLE t{number} (a INT)")
            for value in range(10):
                connection.rows(f"INSERT INTO t{number} VALUES (%s)", (value,))
            assert connection.value(f"SELECT SUM(a) FROM t{number}") == 45
            connection.rows(f"DROP TABLE t{number}")
            connection.close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_DEADLINE)
    assert failures == []
    assert simulator.open_sessions("U1") == []


def test_stop_ends_waiting_callers(simulator: SnowflakeSimulator) -> None:
    connection = connect(simulator, "ADMIN", ADMIN_PASSWORD)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            connection.rows(LONG)
        except snowflake.connector.errors.Error as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until_running(simulator, "ADMIN")
    simulator.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert errors
    connection.close()
