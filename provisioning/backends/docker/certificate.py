"""The certificate that sandboxes serve their pages with."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.vault import Secret

#: Some clients refuse a certificate that is good for longer than 825 days, even one that the
#: user has chosen to trust.
VALID_DAYS = 825
#: Clocks may be behind ours.
EARLIER = timedelta(days=1)
LOCAL_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """A certificate, with those it is signed by behind it, and its private key."""

    certificate_pem: bytes
    private_key_pem: Secret


def make_certificate(hosts: Iterable[str]) -> Certificate:
    """Return a new self-signed certificate for host names and addresses.

    It is no authority: whoever gets hold of its key, as every user of a sandbox does of the
    key in there, cannot sign for other names.
    """
    names = list(dict.fromkeys(hosts))
    if any(name in LOCAL_NAMES for name in names):
        names = list(dict.fromkeys((*names, *LOCAL_NAMES)))
    key = ec.generate_private_key(ec.SECP256R1())
    # Only the alternative names count; here a long one would not even fit.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provisioning sandbox")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now - EARLIER + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificate(certificate.public_bytes(Encoding.PEM), Secret(private.decode()))


def read_certificate(certificate_file: str, key_file: str) -> Certificate:
    """Return the operator's certificate; raises OSError."""
    return Certificate(Path(certificate_file).read_bytes(), Secret(Path(key_file).read_text()))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
