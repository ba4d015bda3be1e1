"""Every route of the front, swept with ids, queries, bodies and headers that mean harm.

None of them is answered with 500, and every refusal has the contract's form (section 3).
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from werkzeug.routing import Rule

from api.app import create_app
from tests.contract.conftest import new_project
from tests.contract.expectations import ERROR_KEYS, finished_job
from tests.support.client import Answer, Client
from tests.support.service import Service

IDS = (
    *("0", "-1", "+1", "1.0", "1e3", "0x1", "01", "9" * 19, "18446744073709551616", "1" * 4500),
    *("%00", "1%00", "%ff%fe", "%F0%9F%98%80", "%D9%A1", "%2e%2e%2f", "%0d%0aX:%20y", "%ed%a0%80"),
    *(
        "'%20OR%201=1--",
        "1;DROP%20TABLE%20jobs",
        "{{7*7}}",
        "${jndi:x}",
        "NaN",
        "null",
        "__proto__",
    ),
)
QUERIES = (
    *("%00", "%ff=%fe", "type", "type=", "type=%00", "type=sandbox&type=sandbox", "type[]=sandbox"),
    *("type=" + "a" * 4000, "&".join(f"a{n}=1" for n in range(1000)), "q=" + "(" * 3000, "q=%22"),
    *("limit=99999999999999999999", "limit=-1", "limit=1e9", "offset=" + "9" * 4400, "offset=NaN"),
    *(
        "wait=-1",
        "wait=inf",
        "wait=" + "9" * 400,
        "after=-1",
        "after=" + "9" * 30,
        "include=%ed%a0%80",
    ),
    *("q=id:" + "9" * 4400, "q=createdTime:%3E99999999999-99", "sort=id'--", "token=%F0%9F%98%80"),
)
BODIES = (
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b'"x"', b"1", b"{", b"{}{}"),
    *(b"[" * 100_000, b'{"type":' * 50_000, b'{"type": NaN}', b'{"type": 1e999}', b'{"type": -0}'),
    *(b'{"type": ' + b"9" * 5000 + b"}", b'{"type": "\\ud800"}', b'{"type": "sandbox\\u0000"}'),
    *(b'{"type": "\xc0\x80"}', b'{"type": {"$ne": 1}}', b'{"__proto__": {}, "type": "sandbox"}'),
    *(b'{"type": ["sandbox"]}', b'{"' + b"k" * 100_000 + b'": 1}', b'{"publicKey": "\\u0000"}'),
    *(b'{"type": "jupyter", "script": 7}', b'{"parameters": [[[[[]]]]], "type": "jupyter"}'),
)
HEADERS = (
    {"X-StorageApi-Token": ""},
    {"X-StorageApi-Token": "\xff" * 200},
    {"X-StorageApi-Token": "a" * 7000},
    {"X-StorageApi-Token": "1-1-' OR 1=1 --"},
    {"X-KBC-RunId": "\xff" * 500},
    {"X-KBC-RunId": "1." * 3000},
    {"Prefer": "wait=" + "9" * 400},
    {"Prefer": "respond-async" + ", " * 3000},
    {"Idempotency-Key": "\xff"},
    {"Idempotency-Key": "k" * 7000},
    {"Last-Event-ID": "9" * 7000},
    {"Content-Type": "text/\xff; charset=\xff"},
    {"Content-Type": "application/json; charset=utf-32"},
    {"Content-Encoding": "gzip"},
    {"Accept": "*" * 7000},
    {"Host": "\xff,:::"},
    {"X-Forwarded-For": "\xff" * 100, "X-Forwarded-Proto": "javascript"},
)


@dataclass(frozen=True)
class Attack:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path[:80]} {(self.body or b'')[:40]!r} {self.headers!s:.80}"


class Routes:
    """The routes with the caller's own ids in them, or other ones."""

    def __init__(self, client: Client, rules: list[Rule]) -> None:
        self._rules = rules
        self._credentials = client.create()["id"]
        path = f"/provisioning/mysql/{self._credentials}/kill"
        self._job = client.post(path, headers={"Prefer": "respond-async"}).body["id"]
        finished_job(client, self._job)

    def attacks(self) -> Iterator[Attack]:
        """Yield what is sent: on each route one thing that is wrong at a time."""
        for rule in self._rules:
            own = self._path(rule)
            for method in sorted((rule.methods or set()) & {"GET", "POST", "DELETE"}):
                yield from (Attack(method, f"{own}?{query}") for query in QUERIES)
                yield from (Attack(method, own, headers=headers) for headers in HEADERS)
                yield from (Attack(method, self._path(rule, id_)) for id_ in self._ids(rule))
                bodies = BODIES if method == "POST" else BODIES[::5]
                yield from (Attack(method, own, body) for body in bodies)
            for method in ("HEAD", "OPTIONS", "PATCH"):
                yield from (Attack(method, own, headers=headers) for headers in HEADERS[::4])

    def _ids(self, rule: Rule) -> tuple[str, ...]:
        return IDS if "id_" in rule.arguments else ()

    def _path(self, rule: Rule, id_: str | None = None) -> str:
        own = self._job if rule.rule.startswith("/queue") else self._credentials
        docker = rule.rule.startswith("/provisioning/async")
        return (
            rule.rule.replace("<backend:backend>", "mysql")
            .replace("<backend>", "docker" if docker else "mysql")
            .replace("<id_>", str(own) if id_ is None else id_)
        )


def wrong_with(attack: Attack, answer: Answer) -> str | None:
    """Return what is wrong with an answer, or None."""
    # No server of sandboxes is configured, and streams are few: nothing else is unavailable.
    away = answer.status == 503 and ("/async/" in attack.path or "/stream" in attack.path)
    if answer.status >= 500 and not away:
        return f"{attack}: {answer.status} {answer.text[:200]}"
    if answer.status < 400 or attack.method == "HEAD":
        return None
    try:
        body = answer.body
    except ValueError:
        return f"{attack}: {answer.status} is not JSON: {answer.text[:100]}"
    if set(body) != ERROR_KEYS or body["code"] != answer.status:
        return f"{attack}: {answer.status} {answer.text[:200]}"
    return None


@pytest.mark.parametrize("service", ["sqlite"], indirect=True)
def test_no_route_can_be_brought_to_500(service: Service) -> None:
    client = service.client(service.token(project=new_project()))
    rules = list(create_app(service.installation).url_map.iter_rules())
    attacks = list(Routes(client, rules).attacks())
    statuses: Counter[int] = Counter()

    def strike(attack: Attack) -> str | None:
        answer = client(attack.method, attack.path, attack.body, headers=attack.headers)
        statuses[answer.status] += 1
        return wrong_with(attack, answer)

    with ThreadPoolExecutor(max_workers=4) as executor:
        wrongs = [wrong for wrong in executor.map(strike, attacks) if wrong is not None]
    print(f"\n{len(attacks)} requests on {len(rules)} routes: {dict(sorted(statuses.items()))}")
    assert not wrongs, "\n".join(wrongs[:30])
    assert {rule.rule for rule in rules} > {"/queue/jobs", "/health/live"}
    assert client.get("/health/ready").status == 200
