"""Secrets: strength, encryption, rotation, and that they do not print."""

import json
import pickle

import pytest

from provisioning.configuration.secrets import (
    PASSWORD_ALPHABET,
    Secret,
    Vault,
    generate_key,
    generate_password,
)
from provisioning.errors import ConfigurationError


def test_a_password_has_24_characters_of_all_four_classes() -> None:
    for _ in range(200):
        text = generate_password().reveal()
        assert len(text) == 24
        assert set(text) <= set(PASSWORD_ALPHABET)
        assert any(c.islower() for c in text)
        assert any(c.isupper() for c in text)
        assert any(c.isdigit() for c in text)
        assert "_" in text
        assert text[0].isalpha() and text[-1].isalpha()


def test_passwords_do_not_repeat() -> None:
    assert len({generate_password().reveal() for _ in range(1000)}) == 1000


def test_a_secret_does_not_print_pickle_or_serialise() -> None:
    secret = Secret("hunter2")
    for shown in (str(secret), repr(secret), f"{secret}", f"{[secret]}", f"{secret!r}"):
        assert "hunter2" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"password": secret})
    assert not hasattr(secret, "__dict__")


def test_what_is_sealed_opens_again_and_does_not_show_the_secret() -> None:
    vault = Vault((generate_key(),))
    sealed = vault.encrypt(Secret("hunter2"))
    assert "hunter2" not in sealed
    assert vault.decrypt(sealed) == Secret("hunter2")


def test_an_old_key_still_opens_after_a_new_one_is_put_first() -> None:
    old, new = generate_key(), generate_key()
    sealed = Vault((old,)).encrypt(Secret("hunter2"))
    assert Vault((new, old)).decrypt(sealed) == Secret("hunter2")
    with pytest.raises(ConfigurationError):
        Vault((new,)).decrypt(sealed)


def test_a_bad_key_is_a_clear_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="ENCRYPTION_KEYS") as caught:
        Vault((Secret("too short"),))
    assert "too short" not in str(caught.value)
