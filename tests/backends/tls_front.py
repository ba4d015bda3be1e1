"""TLS in front of a Unix socket, as an engine that listens on TCP has it."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


def write_pair(directory: Path, name: str) -> tuple[str, str]:
    """Write a certificate that is its own authority, and its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, SHA256())
    )
    files = (directory / f"{name}.pem", directory / f"{name}.key")
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(files[0]), str(files[1])


@contextmanager
def tls_front(target: str, own: tuple[str, str], clients: str) -> Iterator[int]:
    """Relay to the socket ``target`` for who has a certificate of ``clients``; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, context, target))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Unlike closing it, this wakes up who waits in accept.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, target: str) -> None:
    with suppress(OSError):
        while True:
            caller, _ = listener.accept()
            threading.Thread(target=_relay, args=(caller, context, target), daemon=True).start()


def _relay(caller: socket.socket, context: ssl.SSLContext, target: str) -> None:
    with suppress(OSError), caller, socket.socket(socket.AF_UNIX) as engine:
        outer = context.wrap_socket(caller, server_side=True)
        engine.connect(target)
        answers = threading.Thread(target=_copy, args=(engine, outer), daemon=True)
        answers.start()
        _copy(outer, engine)
        answers.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
