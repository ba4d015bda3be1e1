"""Open connections, read from the kernel's tables as a container sees them."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

#: Prints both tables; one is missing where the kernel lacks its protocol. The shell does it
#: alone, because a sandbox that is at its limit of processes can start no other one.
TABLES_COMMAND = (
    "for table in /proc/net/tcp /proc/net/tcp6; do "
    '[ -r $table ] && while read -r line; do echo "$line"; done < $table; done'
)
#: An established connection: the local port and the remote address.
_ESTABLISHED = re.compile(
    r"^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4} 01 ", re.MULTILINE
)


def count_connections(tables: str, port: int) -> int:
    """Return how many connections to a local port come from outside of the container."""
    return sum(
        int(found[1], 16) == port and not _is_loopback(found[2])
        for found in _ESTABLISHED.finditer(tables)
    )


def _is_loopback(hexadecimal: str) -> bool:
    """Tell for an address that the kernel prints in words of the machine's byte order."""
    words = bytes.fromhex(hexadecimal)
    packed = b"".join(words[n : n + 4][::-1] for n in range(0, len(words), 4))
    address: IPv4Address | IPv6Address = ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
