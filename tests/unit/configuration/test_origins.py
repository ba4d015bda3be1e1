"""Addresses and origins: one reading each, and none for what might have two."""

import pytest

from provisioning.configuration.origins import Address, read_address, read_origins


@pytest.mark.parametrize(
    "text,parts",
    [
        ("https://Hooks.example.com/a?b=c", ("https", "hooks.example.com", 443, "/a?b=c")),
        ("https://hooks.example.com", ("https", "hooks.example.com", 443, "/")),
        ("http://localhost:1234/", ("http", "localhost", 1234, "/")),
        ("https://h/%2e%2e/@x:y", ("https", "h", 443, "/%2e%2e/@x:y")),
    ],
)
def test_an_address_is_taken_apart(text: str, parts: tuple[str, str, int, str]) -> None:
    assert read_address(text) == Address(*parts)


@pytest.mark.parametrize(
    "text",
    [
        "", "hooks.example.com", "ftp://h/", "HTTPS://h/", "//h/", "https://", "https:///a",
        "https://good@evil/", "https://good:1@evil/", "https://good\\@evil/", "https://good#@evil/",
        "https://good/a#b", "https://good/a\\b", "https://good/ a", "https://good/\r\nX: y",
        "https://good\n", "https://good/ü", "https://[::1]/", "https://h:0/", "https://h:65536/",
        "https://h:/", "https://h?x", "https://h/" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        read_address(text)


def test_a_host_alone_is_an_https_origin() -> None:
    assert read_origins(" Hooks.example.com, http://localhost:1234,h:8443,") == (
        "https://hooks.example.com:443",
        "http://localhost:1234",
        "https://h:8443",
    )
    assert read_origins("") == ()
    for wrong in ("https://h/path", "*.example.com", "h, user@h"):
        with pytest.raises(ValueError):
            read_origins(wrong)
