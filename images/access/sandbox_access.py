"""What the service put into /run/provisioning: who may log in, and the page's certificate."""

import hashlib
import hmac
import ssl
from pathlib import Path

ACCESS = Path("/run/provisioning")


def may_log_in(user: str, password: str) -> bool:
    """Whether this is the sandbox's user with the right password."""
    algorithm, salt, digest = _line("password-hash").split(":")
    given = hashlib.new(algorithm, (password + salt).encode()).hexdigest()
    right_user = hmac.compare_digest(user.encode(), _line("user").encode())
    return hmac.compare_digest(given, digest) and right_user


def certificate() -> ssl.SSLContext | None:
    """The certificate to serve with; None when the page is to be plain http."""
    if not (ACCESS / "tls.crt").exists():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ACCESS / "tls.crt", ACCESS / "tls.key")
    return context


def _line(name: str) -> str:
    return (ACCESS / name).read_text().strip()
