"""The parts of the Docker backend that need no engine."""

import io
import socket
import ssl
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509

from provisioning.backends.docker import Certificate
from provisioning.backends.docker.archive import Archive, TooShort
from provisioning.backends.docker.backend import read_activity
from provisioning.backends.docker.connections import count_connections
from provisioning.backends.docker.page import Page
from provisioning.backends.docker.readiness import clean_log
from provisioning.configuration.servers import DockerServer
from provisioning.state.claims import ClaimLost
from tests.support.certificates import AUTHORITY, make_certificate
from tests.support.deadlines import DEADLINE

# Connections ----------------------------------------------------------------------------

TITLES = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
LISTENING = "   0: 00000000:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000"
PORT = 8888


def established(local: str, remote: str, state: str = "01") -> str:
    return f"   1: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  1000"


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        (established("0200C90A:22B8", "0100C90A:C350"), 1),
        (established("0000000000000000FFFF00000200C90A:22B8", f"{'0' * 24}0100C90A:C350"), 1),
        (established("0100007F:22B8", "0100007F:C350"), 0),
        (established(f"{'0' * 24}01000000:22B8", f"{'0' * 24}01000000:C350"), 0),
        (established(f"{'0' * 16}FFFF00000100007F:22B8", f"{'0' * 16}FFFF00000100007F:C350"), 0),
        (established("0200C90A:C350", "0100C90A:22B8"), 0),
        (established("0200C90A:22B8", "0100C90A:C350", "08"), 0),
        (LISTENING, 0),
        ('{"busyKernels": 1, "lastActivity": null}', 0),
        ("one two three 01 five", 0),
        ("0: nothing:zz either 01", 0),
    ],
)
def test_connections_from_outside_are_counted(line: str, counted: int) -> None:
    assert count_connections("\n".join([TITLES, line, TITLES, LISTENING]), PORT) == counted


@pytest.mark.parametrize(
    ("said", "kernels", "last"),
    [
        ('{"busyKernels": 2, "lastActivity": null}', 2, None),
        (
            'x\n{"busyKernels": 0, "lastActivity": "2019-01-10T10:00:00Z"}\n',
            0,
            "2019-01-10T10:00:00Z",
        ),
        ("", None, None),
        ("[]", None, None),
        ('{"busyKernels": 2}', None, None),
        ('{"busyKernels": true, "lastActivity": null}', None, None),
        ('{"busyKernels": -1, "lastActivity": null}', None, None),
        ('{"busyKernels": 1, "lastActivity": "<script>"}', None, None),
        ('{"busyKernels": 1, "lastActivity": {}}', None, None),
        ("[" * 100_000, None, None),
    ],
)
def test_activity_is_believed_only_in_its_form(
    said: str, kernels: int | None, last: str | None
) -> None:
    assert read_activity(said) == {"busyKernels": kernels, "lastActivity": last}


def test_the_end_of_a_log_has_neither_secrets_nor_control_characters() -> None:
    log = "\x1b[31mstarted\x1b[0m by hun\x1b[1mter2\n\n  hash abcdef \x07end\n" + "\u00e9" * 3
    assert clean_log(log, ["hunter2", "abcdef"]) == "started by *** | hash *** end"
    assert len(clean_log("x" * 10_000, [])) == 2000


# Files ----------------------------------------------------------------------------------


class Zeros(io.RawIOBase):
    """A file as large as wanted."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        found = min(size, self.left)
        self.left -= found
        return bytes(found)


class Sent:
    """Takes what an archive sends."""

    def __init__(self) -> None:
        self.streams: list[bytes] = []

    def __call__(self, chunks: Iterable[bytes]) -> None:
        self.streams.append(b"".join(chunks))

    def entries(self) -> dict[str, tarfile.TarInfo]:
        found: dict[str, tarfile.TarInfo] = {}
        for stream in self.streams:
            with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
                found |= {entry.name: entry for entry in tar}
        return found


def test_everything_is_the_users_own_and_small_files_go_together() -> None:
    sent = Sent()
    archive = Archive(sent, lambda: None)
    archive.put_secrets("/run/provisioning", {"user": b"ada"})
    archive.make_directory("/data/in/tables")
    for number in range(10):
        archive.put(f"/data/in/files/{number}", io.BytesIO(b"abc"), 3)
    archive.put("/data/in/tables/" + "\u017e" * 120, io.BytesIO(b"x" * 2_000_000), 2_000_000)
    archive.put("/data/main.py", io.BytesIO(b""), 0)
    archive.flush()
    archive.flush()
    assert len(sent.streams) == 2
    entries = sent.entries()
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(1000, 1000)}
    directories = sorted(name for name, entry in entries.items() if entry.isdir())
    assert directories == ["data/in", "data/in/files", "data/in/tables", "run/provisioning"]
    assert entries["run/provisioning"].mode == 0o700
    assert entries["run/provisioning/user"].mode == 0o400
    assert entries["data/in/files/9"].mode == 0o644
    assert entries["data/in/tables/" + "\u017e" * 120].size == 2_000_000


def test_the_size_of_a_file_does_not_matter_to_memory() -> None:
    size, seen = 256 * 2**20, [0]

    def send(chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            seen[0] += len(chunk)

    tracemalloc.start()
    Archive(send, lambda: None).put("/data/big", Zeros(size), size)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen[0] > size
    assert peak < 4 * 2**20


@pytest.mark.parametrize("path", ["/etc/passwd", "/data/../etc/x", "data/x", "/data2/x"])
def test_content_goes_below_its_root_only(path: str) -> None:
    archive = Archive(Sent(), lambda: None)
    with pytest.raises(ValueError, match="is not below /data"):
        archive.put(path, io.BytesIO(b""), 0)


def test_a_file_that_ends_early_is_no_archive() -> None:
    for size in (10, 5_000_000):
        with pytest.raises(TooShort):
            Archive(Sent(), lambda: None).put("/data/x", io.BytesIO(b"abc"), size)


def test_a_long_file_stops_when_the_work_shall_stop() -> None:
    source = Zeros(2**40)
    checks = iter(range(5))

    def check() -> None:
        if next(checks, None) is None:
            raise ClaimLost

    with pytest.raises(ClaimLost):
        Archive(Sent(), check).put("/data/x", source, 2**40)  # type: ignore[arg-type]
    assert source.left > 2**39


# Pages ----------------------------------------------------------------------------------


@contextmanager
def served(
    answer: Callable[[BaseHTTPRequestHandler], None], certificate: Certificate | None, path: Path
) -> Iterator[int]:
    """Serve pages on loopback and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        file = path / "both.pem"
        file.write_text(certificate.certificate_pem.decode() + certificate.private_key_pem.reveal())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answering(
    status: int, body: str = "", location: str = ""
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        landed = handler.path == "/login"
        handler.send_response(200 if landed else status)
        if location and not landed:
            handler.send_header("Location", location.format(port=handler.server.server_port))  # type: ignore[attr-defined]
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        (answering(200, "<title>Jupyter</title>"), None),
        (answering(302, "Jupyter", "/login"), None),
        (answering(302, "Jupyter", "http://127.0.0.1:{port}/login"), None),
        (answering(200, "Loading"), "the page lacks 'Jupyter'"),
        (answering(404, "Jupyter"), "the page has status 404"),
        (answering(302, "Jupyter", "http://localhost:{port}/login"), "the page has status 302"),
        (answering(302, "Jupyter", "/"), "the page has status 302"),
    ],
)
def test_a_page_is_there_or_has_a_flaw(
    tmp_path: Path, answer: Callable[[BaseHTTPRequestHandler], None], flaw: str | None
) -> None:
    with served(answer, None, tmp_path) as port:
        page = Page("127.0.0.1", port, "Jupyter", None)
        assert page.flaw(5) == flaw


def test_only_our_certificate_is_taken_whatever_the_host_is_called(tmp_path: Path) -> None:
    ours, other = make_certificate(["sb.example.com"]), make_certificate(["127.0.0.1"])
    for certificate, well in ((ours, True), (other, False)):
        with served(answering(200, "Jupyter"), certificate, tmp_path) as port:
            page = Page("127.0.0.1", port, "Jupyter", ours.certificate_pem)
            assert (page.flaw(5) is None) is well


@pytest.mark.parametrize(
    "trickle", [b"H", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 200 OK\r\n\r\nx"]
)
def test_a_server_that_trickles_is_not_waited_for(trickle: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while True:
                    connection.sendall(trickle)
                    time.sleep(0.01)

        thread = threading.Thread(target=serve)
        thread.start()
        start = time.monotonic()
        host, port = listener.getsockname()
        assert Page(host, port, "Jupyter", None).flaw(0.3) == "no page: TimeoutError"
        assert time.monotonic() - start < DEADLINE
        thread.join()


def test_nothing_at_the_port_is_a_flaw() -> None:
    assert (Page("127.0.0.1", 1, "Jupyter", None).flaw(5) or "").startswith("no page")


def test_an_issued_certificate_is_for_its_hosts_and_signs_for_none() -> None:
    made = make_certificate(["localhost", "sb.example.com", "10.0.0.1"])
    certificate = x509.load_pem_x509_certificate(made.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "sb.example.com"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["10.0.0.1", "127.0.0.1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert validity <= timedelta(days=825)
    assert "BEGIN" not in repr(made.private_key_pem)
    authority = x509.load_pem_x509_certificate(AUTHORITY.certificate_pem)
    certificate.verify_directly_issued_by(authority)
    assert made.certificate_pem.endswith(AUTHORITY.certificate_pem)


def test_each_port_has_a_network_of_its_own() -> None:
    server = DockerServer(name="one", ports="20000-27999")
    assert str(server.network_of(20000)) == "10.201.0.0/29"
    assert str(server.network_of(27999)) == "10.201.249.248/29"
    networks = {server.network_of(port) for port in server.port_range}
    assert len(networks) == 8000
