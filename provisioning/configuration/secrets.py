"""Passwords: how they are made, kept and kept from being seen."""

import secrets
import string
from typing import NewType, NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from provisioning.errors import ConfigurationError

PASSWORD_LENGTH = 24
#: The underscore is plain in addresses, shells, INI and YAML files.
PASSWORD_ALPHABET = string.ascii_letters + string.digits + "_"
#: Servers' password policies ask for one of each.
PASSWORD_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "_")

#: An encrypted secret. Columns of this type are the ones that a rotation of keys goes through,
#: so nothing else is taken for decryption.
Sealed = NewType("Sealed", str)


class Secret:
    """A string that cannot be printed, logged, pickled or put into JSON by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain text. Call it only where the secret leaves for its owner or server."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('********')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(
            self._value.encode(), other._value.encode()
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised")


def generate_password() -> Secret:
    """Return a password of 24 characters with one of each class (contract 6.1.6).

    It begins and ends with a letter.
    """
    while True:
        inner = "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH - 2))
        text = (
            f"{secrets.choice(string.ascii_letters)}{inner}{secrets.choice(string.ascii_letters)}"
        )
        if all(set(text) & set(characters) for characters in PASSWORD_CLASSES):
            return Secret(text)


class Vault:
    """Encrypts secrets at rest. The first key encrypts, every key decrypts, so keys rotate."""

    def __init__(self, keys: tuple[Secret, ...]) -> None:
        try:
            self._keys = [Fernet(key.reveal()) for key in keys]
            self._fernet = MultiFernet(self._keys)
        except ValueError:
            raise ConfigurationError(
                "ENCRYPTION_KEYS: each key is 32 bytes in URL-safe base64, "
                "as `provisioning keys generate` prints"
            ) from None

    def encrypt(self, secret: Secret) -> Sealed:
        return Sealed(self._fernet.encrypt(secret.reveal().encode()).decode())

    def is_current(self, sealed: Sealed) -> bool:
        """Return whether the first key alone opens it."""
        try:
            self._keys[0].decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True

    def decrypt(self, sealed: Sealed) -> Secret:
        """Return the secret; raise ``ConfigurationError`` when no configured key opens it."""
        try:
            return Secret(self._fernet.decrypt(sealed.encode()).decode())
        except InvalidToken:
            raise ConfigurationError(
                "ENCRYPTION_KEYS: no configured key opens a stored secret; add the key it was "
                "written with"
            ) from None


def generate_key() -> Secret:
    """Return a new key for ``ENCRYPTION_KEYS``."""
    return Secret(Fernet.generate_key().decode())
