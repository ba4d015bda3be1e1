"""RSA key pairs that logins prove themselves by: made by us, or the caller's public half.

A public key is kept as the base64 text of its DER form, on one line: servers take it so, and
two texts of one key are equal then.
"""

import base64
import hashlib
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from provisioning.configuration.secrets import Secret

#: Bits: the least that Snowflake takes and the size of ours, and the most that is worth reading.
KEY_BITS, MOST_BITS = 2048, 8192
#: Characters of a text that may hold a key of the most bits.
LONGEST_TEXT = 4096
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----(.*)-----END PUBLIC KEY-----", re.DOTALL)


def generate_key_pair() -> tuple[Secret, str]:
    """Return a new private key (PEM, PKCS 8, no passphrase) and its public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Secret(pem.decode()), _text_of(key.public_key())


def read_public_key(text: str) -> str:
    """Return the key in a PEM text or in the bare base64 of one.

    Raises ``ValueError``, whose text says what is wrong and does not quote the key.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError("the text is too long")
    pem = _PEM.fullmatch(text.strip())
    body = "".join((pem[1] if pem else text).split())
    try:
        key = load_der_public_key(base64.b64decode(body, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a public key is expected, PEM or the base64 of one") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("an RSA key is expected")
    if not KEY_BITS <= key.key_size <= MOST_BITS:
        raise ValueError(f"a key of {KEY_BITS} to {MOST_BITS} bits is expected")
    return _text_of(key)


def fingerprint(public_key: str) -> str:
    """Return how Snowflake shows a key that it has: ``SHA256:`` and a digest."""
    digest = hashlib.sha256(base64.b64decode(public_key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode()}"


def private_der(private_key: Secret) -> bytes:
    """Return a private key of ours in the binary form that drivers take."""
    key = load_pem_private_key(private_key.reveal().encode(), None)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _text_of(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()
