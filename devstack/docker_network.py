"""The network a private Docker engine works in: a namespace of its own, or the machine's.

Either way one rule keeps sandboxes away from what listens on the engine's host: new connections
that come in from a sandbox's bridge are dropped. The name of such a bridge starts with `pv`.
"""

import contextlib
import json
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from devstack.executables import require_program
from devstack.processes import StartFailed
from devstack.server import write_private

SANDBOX_BRIDGES = "pv+"
_NEW = ["-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"]
NO_CALLS_TO_THE_HOST = ["INPUT", "-i", SANDBOX_BRIDGES, *_NEW]
NO_CALLS_OUT = ["DOCKER-USER", "-i", SANDBOX_BRIDGES, "-o", "eth0", *_NEW]
NAMESPACES = Path("/run/netns")
#: Each namespace has a /30 of its own in one of these 256 subnets.
NAMESPACE_ADDRESSES = "10.214."
TABLES = ("nat", "filter")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class EngineNetwork(ABC):
    """Where an engine's published ports appear, and what has to be there before it starts."""

    #: The host name or address at which published ports are reached from this machine.
    public_host: str
    #: Options that an engine in this network needs.
    engine_options: tuple[str, ...] = ()

    @abstractmethod
    def make(self) -> None:
        """Make what is missing; harmless when all is there."""

    @abstractmethod
    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` in this network."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what `make` and the engine made; the engine has ended."""

    def _ensure_rule(self, rule: list[str]) -> None:
        if not self._iptables("-C", *rule, check=False):
            self._iptables("-I", *rule)

    def _iptables(self, *arguments: str, check: bool = True) -> bool:
        command = [require_program("iptables"), "-w", *arguments]
        return _run(self.inside(command), check=check)


class OwnNamespace(EngineNetwork):
    """A network namespace joined to the machine by one pair of virtual cables.

    Its engine shares no bridge, no rule and no port with any other engine. Only this machine
    reaches it, and its sandboxes reach nothing outside of their own networks.
    """

    # No name server can be reached, and the engine's own does not say so: nobody waits long for it.
    engine_options = ("--dns-opt=timeout:1", "--dns-opt=attempts:1")

    def __init__(self, name: str, remembered: Path) -> None:
        self.name = name
        self._remembered = remembered
        self._number: int | None = None

    @property
    def public_host(self) -> str:  # type: ignore[override]
        """The namespace's address."""
        if self._number is None:
            raise StartFailed("the namespace was not made")
        return f"{self._subnet(self._number)}.2"

    def make(self) -> None:
        if self._number is not None:
            return
        remove_namespace(self.name)
        _ip("netns", "add", self.name)
        self._run_inside("ip", "link", "set", "lo", "up")
        self._number = self._plug_in()
        self._remembered.write_text(str(self._number))
        self._run_inside("ip", "address", "add", f"{self.public_host}/30", "dev", "eth0")
        self._run_inside("ip", "link", "set", "eth0", "up")
        self._ensure_rule(NO_CALLS_TO_THE_HOST)
        # The engine leaves a chain of this name as it finds it.
        self._iptables("-N", "DOCKER-USER")
        self._ensure_rule(NO_CALLS_OUT)

    def inside(self, command: Sequence[str]) -> list[str]:
        return [require_program("nsenter"), f"--net={NAMESPACES / self.name}", "--", *command]

    def remove(self) -> None:
        remove_namespace(self.name)
        self._number = None

    def _plug_in(self) -> int:
        """Lay the cable; that its name is taken only once is what makes the subnet ours."""
        for number in self._candidates():
            subnet, cable = self._subnet(number), self._cable(number)
            end = ["type", "veth", "peer", "name", "eth0", "netns", self.name]
            if not _ip("link", "add", cable, *end, check=False):
                continue
            if _is_routed(subnet):
                _ip("link", "delete", cable)
                continue
            _ip("address", "add", f"{subnet}.1/30", "dev", cable)
            _ip("link", "set", cable, "up")
            return number
        raise StartFailed("no subnet is free for the Docker engine's namespace")

    def _candidates(self) -> Iterator[int]:
        """The number of the last time first, so that addresses handed out stay true."""
        with contextlib.suppress(OSError, ValueError):
            yield int(self._remembered.read_text())
        yield from range(256)

    def _run_inside(self, program: str, *arguments: str) -> None:
        _run(self.inside([require_program(program), *arguments]))

    @staticmethod
    def _subnet(number: int) -> str:
        return f"{NAMESPACE_ADDRESSES}{number}"

    @staticmethod
    def _cable(number: int) -> str:
        return f"prov{number}"


class HostNetwork(EngineNetwork):
    """The machine's own network: published ports are the machine's ports.

    An engine leaves its bridges, its rules and IP forwarding behind when it ends, so they are
    removed here; what was there before it started stays as it was.
    """

    public_host = "localhost"

    def __init__(self, remembered: Path) -> None:
        self._remembered = remembered

    def make(self) -> None:
        if not self._remembered.exists():
            before = {
                "rules": {table: self._rules(table) for table in TABLES},
                "bridges": list(_bridges_of_sandboxes()),
                "forwarding": FORWARDING.read_text(),
            }
            write_private(self._remembered, json.dumps(before))
        self._ensure_rule(NO_CALLS_TO_THE_HOST)

    def inside(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def remove(self) -> None:
        if not self._remembered.exists():
            return
        before = json.loads(self._remembered.read_text())
        bridges = {
            name: network
            for name, network in _bridges_of_sandboxes().items()
            if name not in before["bridges"]
        }
        for table in TABLES:
            self._remove_rules(table, before["rules"][table], bridges)
        for name in bridges:
            _ip("link", "delete", name, check=False)
        FORWARDING.write_text(before["forwarding"])
        self._remembered.unlink()

    def _rules(self, table: str) -> list[str]:
        """The table as lines `-P` (policies), `-N` (chains) and `-A` (rules)."""
        command = [require_program("iptables"), "-w", "-t", table, "-S"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.splitlines()

    def _remove_rules(self, table: str, before: list[str], bridges: dict[str, IPv4Network]) -> None:
        new = [line for line in self._rules(table) if line not in before]
        for line in new:
            if line.startswith("-A ") and _is_of_the_engine(line, bridges):
                self._iptables("-t", table, "-D", *shlex.split(line)[1:], check=False)
        for line in new:
            if line.startswith("-N DOCKER"):
                self._iptables("-t", table, "-X", line.split()[1], check=False)
        for line in before:
            if line.startswith("-P "):
                self._iptables("-t", table, *shlex.split(line))


def remove_namespace(name: str) -> None:
    """Remove a network namespace, if there is one.

    The kernel would remove the cable some time after the last process in the namespace ended, so
    that is done here: its subnet is free for the next start.
    """
    if (NAMESPACES / name).exists():
        _ip("-n", name, "link", "delete", "eth0", check=False)
        _ip("netns", "delete", name, check=False)


def _bridges_of_sandboxes() -> dict[str, IPv4Network]:
    """The bridges named as those of sandboxes, with their networks."""
    command = [require_program("ip"), "-o", "-4", "address", "show", "type", "bridge"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^\d+: (pv\d+) +inet (\S+)", shown, re.MULTILINE)
    return {name: IPv4Network(address, strict=False) for name, address in found}


def _is_of_the_engine(rule: str, bridges: dict[str, IPv4Network]) -> bool:
    """Whether a rule leads to the engine's chains or is about one of the sandboxes."""
    addresses = [IPv4Address(text) for text in re.findall(r"\d+\.\d+\.\d+\.\d+", rule)]
    return (
        "DOCKER" in rule
        or any(name in rule.split() for name in (*bridges, SANDBOX_BRIDGES))
        or any(address in network for address in addresses for network in bridges.values())
    )


def _is_routed(subnet: str) -> bool:
    """Whether an interface or a route of this machine has the subnet already."""
    command = [require_program("ip"), "-o", "-4", "route", "show", "root", f"{subnet}.0/24"]
    return bool(subprocess.run(command, check=True, capture_output=True).stdout.strip())


def _ip(*arguments: str, check: bool = True) -> bool:
    return _run([require_program("ip"), *arguments], check=check)


def _run(command: list[str], *, check: bool = True) -> bool:
    """Whether the command worked; with `check`, a failure ends the start with its message."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode != 0:
        raise StartFailed(f"{' '.join(command)} failed: {done.stdout.strip()}")
    return done.returncode == 0
