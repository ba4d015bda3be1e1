"""Addresses the service calls on a caller's behalf, and the origins an operator allows.

An address is taken apart once, by a pattern that has no second reading, and its parts are what
is connected to: no library reads another host out of it.
"""

import re
from dataclasses import dataclass

#: Visible ASCII but backslash and number sign; no user, no password.
_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[!\"$-\[\]-~]*)?")
_PORTS = {"http": 80, "https": 443}
LONGEST_ADDRESS = 2000


@dataclass(frozen=True)
class Address:
    """Where a request goes."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """The part that decides who is called."""
        return f"{self.scheme}://{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """Return the parts of an address; raise ``ValueError`` for anything else."""
    found = _ADDRESS.fullmatch(text) if len(text) <= LONGEST_ADDRESS else None
    if found is None:
        raise ValueError("an address such as https://host/path is expected")
    scheme, host, port, path = found.groups()
    number = int(port or _PORTS[scheme])
    if not 0 < number < 65536:
        raise ValueError("the port is not one")
    return Address(scheme, host.lower(), number, path or "/")


def read_origins(text: str) -> tuple[str, ...]:
    """Return the origins of a list with commas; a bare host means HTTPS."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    addresses = [read_address(part if "://" in part else f"https://{part}") for part in parts]
    if any(address.path != "/" for address in addresses):
        raise ValueError("write hosts, such as hooks.example.com or http://localhost:1234")
    return tuple(address.origin for address in addresses)
