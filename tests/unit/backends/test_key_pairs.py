"""Key pairs: which texts are public keys, and in which form they are kept."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)

from provisioning.backends.key_pairs import (
    fingerprint,
    generate_key_pair,
    private_der,
    read_public_key,
)

PRIVATE, PUBLIC = generate_key_pair()


def pem(body: str, lines: str = "\n") -> str:
    wrapped = lines.join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN PUBLIC KEY-----{lines}{wrapped}{lines}-----END PUBLIC KEY-----{lines}"


def text_of(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize(
    "text",
    [PUBLIC, f" {PUBLIC}\n", pem(PUBLIC), pem(PUBLIC, "\r\n"), pem(PUBLIC, " "), pem(PUBLIC, "")],
    ids=["base64", "spaces", "PEM", "PEM of Windows", "PEM without lines", "PEM run together"],
)
def test_one_key_has_one_form_whatever_text_it_came_in(text: str) -> None:
    assert read_public_key(text) == PUBLIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a public key is expected"),
        ("no key é", "a public key is expected"),
        (pem(""), "a public key is expected"),
        (PUBLIC[:-8], "a public key is expected"),
        (PRIVATE.reveal(), "a public key is expected"),
        (base64.b64encode(private_der(PRIVATE)).decode(), "a public key is expected"),
        (text_of(ec.generate_private_key(ec.SECP256R1()).public_key()), "an RSA key is expected"),
        (text_of(rsa.generate_private_key(65537, 1024).public_key()), "2048 to 8192 bits"),
        ("A" * 5000, "too long"),
    ],
    ids=["empty", "words", "empty PEM", "cut", "private", "private DER", "EC", "short", "long"],
)
def test_other_texts_are_refused_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_public_key(text)
    assert not text or text not in str(caught.value)


def test_a_pair_of_ours_belongs_together_and_has_2048_bits() -> None:
    key = load_der_private_key(private_der(PRIVATE), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (key.key_size, text_of(key.public_key())) == (2048, PUBLIC)
    assert generate_key_pair()[1] != PUBLIC


def test_the_private_key_is_a_pem_text_that_does_not_print() -> None:
    assert PRIVATE.reveal().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert "PRIVATE" not in f"{PRIVATE} {PRIVATE!r}"


def test_a_fingerprint_is_the_digest_of_the_der_form() -> None:
    digest = hashlib.sha256(base64.b64decode(PUBLIC)).digest()
    assert fingerprint(PUBLIC) == "SHA256:" + base64.b64encode(digest).decode()
