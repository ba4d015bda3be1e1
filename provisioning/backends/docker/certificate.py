"""The certificate that sandboxes serve their pages with."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.configuration.secrets import Secret, Vault
from provisioning.state.bootstrap import read_sealed
from provisioning.state.database import Database

#: Some clients refuse a certificate that is good for longer than 825 days, even one that the
#: user has chosen to trust.
VALID_DAYS = 825
#: The authority is chosen once, by hand, so it lasts.
AUTHORITY_DAYS = 3650
#: Clocks may be behind ours.
EARLIER = timedelta(days=1)
LOCAL_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """A certificate, with those it is signed by behind it, and its private key."""

    certificate_pem: bytes
    private_key_pem: Secret


def make_authority() -> Certificate:
    """Return a new authority, which signs nothing but the certificates of sandboxes.

    A client that trusts it trusts every sandbox. A sandbox's user can read the sandbox's key, but
    that key is good for the sandbox's certificate alone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("provisioning sandboxes")
    builder = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(_key_usage(signs_certificates=True), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    return Certificate(builder.sign(key, SHA256()).public_bytes(Encoding.PEM), _private_pem(key))


def issue_certificate(authority: Certificate, hosts: Iterable[str]) -> Certificate:
    """Return a new certificate for host names and addresses, signed by the authority."""
    names = list(dict.fromkeys(hosts))
    if any(name in LOCAL_NAMES for name in names):
        names = list(dict.fromkeys((*names, *LOCAL_NAMES)))
    signer = x509.load_pem_x509_certificate(authority.certificate_pem)
    signing_key = load_pem_private_key(authority.private_key_pem.reveal().encode(), None)
    if not isinstance(signing_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not one of ours")
    key = ec.generate_private_key(ec.SECP256R1())
    # Only the alternative names count; here a long one would not even fit.
    certificate = (
        _builder(_name("provisioning sandbox"), signer.subject, key, VALID_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_key_usage(signs_certificates=False), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(_signed_by(signing_key), False)
        .sign(signing_key, SHA256())
    )
    chain = certificate.public_bytes(Encoding.PEM) + authority.certificate_pem
    return Certificate(chain, _private_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now - EARLIER + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def read_certificate(certificate_file: str, key_file: str) -> Certificate:
    """Return the operator's certificate; raises OSError."""
    return Certificate(Path(certificate_file).read_bytes(), Secret(Path(key_file).read_text()))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


AUTHORITY = "authority"


def read_authority(database: Database, vault: Vault) -> Certificate:
    """Return the authority, made at its first need; processes that race get the same one."""
    values = json.loads(read_sealed(database, vault, AUTHORITY, _make_values).reveal())
    return Certificate(values["certificate"].encode(), Secret(values["private_key"]))


def _make_values() -> Secret:
    made = make_authority()
    values = {
        "certificate": made.certificate_pem.decode(),
        "private_key": made.private_key_pem.reveal(),
    }
    return Secret(json.dumps(values))
