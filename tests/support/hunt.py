"""The hunt at the end of a run: no secret that a service was given or gave away is lying about.

Services and clients note the secrets they see, and where what they wrote can be read. At the
end all of it is searched once: logs, state databases, what went through the broker, and the
arguments of processes. Environments are not: that is where secrets come from.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

#: Letters, digits and `_` that a secret has in a row, at least, to be told from other text.
SHORTEST = 16
_RUN = re.compile(rb"[A-Za-z0-9_]{%d,}" % SHORTEST)
#: What an answer says in one of these is a secret.
_ANSWERED = re.compile(r'"(password|privateKey)": ?("(?:[^"\\]|\\.)*")')
#: The body of a message, as the broker's commands are shown.
_BODY = re.compile(rb'\\"body\\": \\"([A-Za-z0-9+/=]+)\\"')


class Hunt:
    """Secrets by kind, and the places where none may be."""

    def __init__(self) -> None:
        #: Kinds, by the runs of such characters that the secrets consist of.
        self._secrets: dict[bytes, str] = {}
        self._files: dict[Path, None] = {}
        self._texts: list[tuple[str, bytes]] = []

    # What is known ------------------------------------------------------------------

    def add_secret(self, kind: str, text: str) -> None:
        """Hunt for a secret; one without ``SHORTEST`` such characters in a row is not."""
        for run in _RUN.findall(text.encode()):
            self._secrets.setdefault(run, kind)

    def add_setting(self, name: str, value: str) -> None:
        """Hunt for a secret setting: the password of an address, or keys."""
        # The path of a SQLite database is no secret.
        secret = urlsplit(value).password or "" if "://" in value else value
        self.add_secret(name, secret)

    def add_answer(self, text: str) -> None:
        """Hunt for the secrets that an answer gave to their owner."""
        for kind, quoted in _ANSWERED.findall(text):
            secret = str(json.loads(quoted))
            # The first half of a private key is its public one.
            self.add_secret(kind, secret[len(secret) // 2 :] if kind == "privateKey" else secret)

    def add_files(self, *files: Path) -> None:
        """Search files at the end, as they are then."""
        self._files.update(dict.fromkeys(files))

    def add_text(self, place: str, text: str) -> None:
        """Search a text of this moment."""
        self._texts.append((place, text.encode(errors="replace")))

    def knows(self, secret: str) -> bool:
        """Return whether the secret is hunted for."""
        runs = _RUN.findall(secret.encode())
        return bool(runs) and all(run in self._secrets for run in runs)

    # The search ---------------------------------------------------------------------

    def find(self) -> list[str]:
        """Return where secrets were found and of which kind, but not the secrets."""
        found: Counter[tuple[str, str]] = Counter()
        starts: dict[bytes, list[bytes]] = {}
        for secret in self._secrets:
            starts.setdefault(secret[:SHORTEST], []).append(secret)
        for place, content in self._contents():
            for run in _runs_of(content):
                for kind in self._kinds_in(run, starts):
                    found[place, kind] += 1
        return [f"{place}: {kind}, {count} times" for (place, kind), count in sorted(found.items())]

    def _contents(self) -> Iterable[tuple[str, bytes]]:
        yield from self._texts
        for file in self._files:
            if file.is_file():
                yield str(file), file.read_bytes()

    def _kinds_in(self, run: bytes, starts: dict[bytes, list[bytes]]) -> Iterable[str]:
        for place in range(len(run) - SHORTEST + 1):
            for secret in starts.get(run[place : place + SHORTEST], ()):
                if run.startswith(secret, place):
                    yield self._secrets[secret]


def _runs_of(content: bytes) -> set[bytes]:
    runs = set(_RUN.findall(content))
    for body in _BODY.findall(content):
        runs.update(_RUN.findall(base64.b64decode(body)))
    return runs


#: The hunt of this run.
HUNT = Hunt()
