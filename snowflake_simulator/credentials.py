"""What a user proves who they are with: passwords, key pairs and programmatic access tokens."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from snowflake_simulator import errors

#: The server's default password policy.
SHORTEST_PASSWORD = 14
LONGEST_PASSWORD = 256
_SALT_BYTES = 16
#: Seconds that a client's clock may be ahead.
_SKEW_SECONDS = 60


@dataclass(frozen=True)
class Password:
    """A salted digest. It is a fast one: these passwords protect nothing but test data."""

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, text: str) -> "Password":
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(salt, _digest(salt, text))

    def matches(self, text: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(self.salt, text))


def _digest(salt: bytes, text: str) -> bytes:
    return hashlib.sha256(salt + text.encode()).digest()


def check_password_policy(text: str) -> None:
    """Refuse a new password that the default policy of an account refuses."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise errors.rejected_password("PASSWORD_LENGTH")
    if not any(character.isdigit() for character in text):
        raise errors.rejected_password("PASSWORD_MIN_NUMERIC_CHARS")
    if not any(character.isupper() for character in text):
        raise errors.rejected_password("PASSWORD_MIN_UPPER_CASE_CHARS")
    if not any(character.islower() for character in text):
        raise errors.rejected_password("PASSWORD_MIN_LOWER_CASE_CHARS")


class PublicKey:
    """An RSA public key as ALTER USER takes it: base64 of the DER form, without PEM lines."""

    def __init__(self, text: str) -> None:
        try:
            key = load_der_public_key(base64.b64decode("".join(text.split()), validate=True))
        except (ValueError, binascii.Error) as error:
            raise errors.invalid_value("***", "RSA_PUBLIC_KEY") from error
        if not isinstance(key, RSAPublicKey):
            raise errors.invalid_value("***", "RSA_PUBLIC_KEY")
        self._key = key
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    def signed(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class KeyToken:
    """A JSON web token of a key-pair login, decoded and not yet verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    message: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> "KeyToken":
        try:
            header, claims, signature = text.split(".")
            return cls(
                json.loads(_unpadded(header)),
                json.loads(_unpadded(claims)),
                f"{header}.{claims}".encode(),
                _unpadded(signature),
            )
        except ValueError as error:
            raise errors.bad_key_token() from error

    def proves(self, subject: str, keys: list[PublicKey], now: float) -> bool:
        """Whether one of the keys signed the token for this ``ACCOUNT.USER``, and it is valid."""
        issuers = {f"{subject}.{key.fingerprint}": key for key in keys}
        key = issuers.get(str(self.claims.get("iss")))
        return (
            key is not None
            and self.header.get("alg") == "RS256"
            and self.claims.get("sub") == subject
            and float(self.claims.get("iat", 0)) <= now + _SKEW_SECONDS
            and float(self.claims.get("exp", 0)) > now
            and key.signed(self.message, self.signature)
        )


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class AccessToken:
    """A programmatic access token; only a digest of its secret is kept."""

    name: str
    role: str | None
    days: int
    created_on: datetime
    created_by: str
    expires_at: datetime
    comment: str = ""
    disabled: bool = False
    rotated_to: str = ""
    _secret: Password = field(default_factory=lambda: Password.of(secrets.token_hex(32)))

    def renew_secret(self) -> str:
        """Replace the secret and return the new one, which is never shown again."""
        secret = secrets.token_urlsafe(48)
        self._secret = Password.of(secret)
        return secret

    def accepts(self, secret: str, now: datetime) -> bool:
        return not self.disabled and now < self.expires_at and self._secret.matches(secret)

    def status(self, now: datetime) -> str:
        if now >= self.expires_at:
            return "EXPIRED"
        return "DISABLED" if self.disabled else "ACTIVE"

    def copy_as(self, name: str, expires_at: datetime) -> "AccessToken":
        """Return this token under another name, as rotation keeps the old secret."""
        return AccessToken(
            name,
            self.role,
            self.days,
            self.created_on,
            self.created_by,
            min(expires_at, self.expires_at),
            self.comment,
            self.disabled,
            self.name,
            self._secret,
        )


def expiry(now: datetime, days: int) -> datetime:
    return now + timedelta(days=days)
