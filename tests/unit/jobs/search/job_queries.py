"""Random jobs, and random queries with what they mean in plain Python."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

from provisioning.state.enums import JobCommand, JobStatus

PROJECT = "572"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Within a few days, so that dates and seconds are often equal.
START = 1_546_300_800
DAYS = 4
TEXTS = [
    "a@b.cz", "A@B.cz", "a@b.cz ", " a", "two words", 'say "hi"', "back\\slash", "100%_*", "*", "",
    "AND", "-x", "(a)", "[a TO b]", "a:b", "žluťoučký 夜 😀", "😀😁", "null", "true", "5", "05",
    "tr", "line\nbreak", "a", "aa", "it's", "$.a", "{", "\u007f\u0001",
]  # fmt: skip
HUGE = ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 60]


def random_text(random: Random) -> str:
    return random.choice(TEXTS) if random.random() < 0.9 else random.choice(HUGE)


def random_params(random: Random) -> dict[str, Any]:
    params: dict[str, Any] = {"backend": random.choice(["docker", "mysql", "Docker"])}
    choices: dict[str, Callable[[], Any]] = {
        "type": lambda: random.choice(["jupyter", "rstudio", None]),
        "id": lambda: str(random.randint(1, 40)),
        "text": lambda: random_text(random),
        "flag": lambda: random.choice([True, False, None, "true"]),
        "count": lambda: random.choice([0, 5, -5, 12, 10**17, "5", "12"]),
        "input": lambda: random.choice([[], {"tables": [{"source": "a"}], "0": "a"}]),
        "transformation": lambda: {"row_id": random_text(random), "0": {"deep": {"er": 5}}},
        "0": lambda: ["a", "5"],
    }
    for key, choose in choices.items():
        if random.random() < 0.6:
            params[key] = choose()
    return params


def random_job(random: Random, id_: int) -> dict[str, Any]:
    """Return the columns of a job; with the times and the status of no real one, too."""
    created = START * 1000 + random.randrange(DAYS * 86_400_000)
    started = random.choice([None, created + random.choice([0, 1, 999, 1000, 90_000, -1500])])
    run_id = random.choice(["", "nightly [a.b] (1).", "206.207.", "žluť.", "x "]) + str(id_ + 1)
    return {
        "id": id_,
        "run_id": run_id,
        "command": random.choice(list(JobCommand)),
        "status": random.choice(list(JobStatus)),
        "backend": "docker",
        "params": random_params(random),
        "request": "a script",
        "result": {"status": "ok"},
        "progress": [],
        "slot": "1:docker:jupyter",
        "project_id": PROJECT,
        "project_name": random.choice(["Test", "test", "Test "]),
        "token_id": str(random.randint(1, 5)),
        "token_description": random_text(random),
        "created_at": created,
        "started_at": started,
        "ended_at": started and random.choice([None, started + random.randrange(-2000, 300_000)]),
        "process_host": random.choice([None, "worker1", "worker10"]),
        "process_pid": random.choice([None, 1, 4211]),
        "error": random.choice([None, "user", "application"]),
        "error_note": random.choice([None, "backend_unavailable", ""]),
        "claim_token": 0,
        "claim_until": random.choice([None, created]),
        "attempts": random.randint(0, 3),
        "not_before": random.choice([0, created + 1500]),
    }


def scalars(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the searchable values of a printed record, by the names of their fields."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        nested = prefix.startswith("params.") or key in ("params", "token", "project", "process")
        if isinstance(value, dict) and nested and key != "result":
            found |= scalars(value, f"{prefix}{key}.")
        elif not isinstance(value, dict | list) and value is not None:
            found[f"{prefix}{key}"] = value
    return found


def printed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# Queries --------------------------------------------------------------------------------

Values = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """A query's text, and whether a job with some values is among its answers."""

    text: str
    holds: Callable[[Values], bool]
    #: AND binds tighter than OR, and neither binds as one condition does.
    weakest: str = ""

    def within(self, stronger: str) -> str:
        """Return the text as a part of a query combined by something that binds stronger."""
        loose = {"": 0, "AND": 1, "OR": 2}
        return f"({self.text})" if loose[self.weakest] > loose[stronger] else self.text


@dataclass(frozen=True)
class Test:
    """What follows the colon, and whether a value passes."""

    text: str
    passes: Callable[[Any], bool]


def random_query(random: Random, samples: list[Values], depth: int = 3) -> Query:
    kind = random.choice(["AND", "OR", "not", "leaf", "leaf"]) if depth else "leaf"
    if kind == "leaf":
        return random_condition(random, samples)
    if kind == "not":
        return negate(random, random_query(random, samples, depth - 1))
    parts = [random_query(random, samples, depth - 1) for _ in range(random.randint(2, 3))]
    return combine(random, kind, parts)


def combine(random: Random, kind: str, parts: list[Query]) -> Query:
    sign = f" {kind} " if kind == "OR" else random.choice([" AND ", " ", "\t AND\n"])
    texts = [part.within(kind) for part in parts]
    texts = [f"( {text} )" if random.random() < 0.1 else text for text in texts]
    test = all if kind == "AND" else any
    return Query(sign.join(texts), lambda job: test(part.holds(job) for part in parts), kind)


def negate(random: Random, query: Query) -> Query:
    bare = query.within("")
    if bare.startswith("-"):
        bare = f"({bare})"
    return Query(f"-{bare}", lambda job: not query.holds(job))


def _passes_one(first: Test, second: Test, value: Any) -> bool:
    return first.passes(value) or second.passes(value)


def random_condition(random: Random, samples: list[Values]) -> Query:
    field = random_field(random, samples)
    test = random_test(random, field, samples)
    if random.random() < 0.2:
        other = random_test(random, field, samples)
        test = Test(
            f"({test.text} OR {other.text})",
            partial(_passes_one, test, other),
        )
    return Query(f"{field}:{test.text}", lambda job: field in job and test.passes(job[field]))


def random_field(random: Random, samples: list[Values]) -> str:
    if random.random() < 0.05:
        return random.choice(["foo", "result.status", "params", "usage", "_index", "params.a.b.c"])
    return random.choice(list(random.choice(samples)))


def random_test(random: Random, field: str, samples: list[Values]) -> Test:
    job = random.choice([sample for sample in samples if field in sample] or [{field: "x"}])
    value = job[field]
    kind = random.random()
    if field.endswith("Time") or field == "notBefore":
        return random_moments(random, value)
    if type(value) is int and kind < 0.6:
        return random_numbers(random, value + random.choice([-1, 0, 0, 1]))
    if field.startswith("params.") and kind < 0.2:
        return random_numbers(random, random.randint(-6, 40))
    text = printed(value) if kind < 0.9 else random_text(random)
    if len(text) > 1 and random.random() < 0.3:
        return starts(random, text[: random.randrange(1, len(text))])
    return Test(quoted(random, text), lambda value: printed(value) == text)


def starts(random: Random, text: str) -> Test:
    return Test(escaped(text) + "*", lambda value: printed(value).startswith(text))


def quoted(random: Random, text: str) -> str:
    """Return the text as a value, in one of the forms that it can have."""
    if text not in ("", "AND") and random.random() < 0.5:
        return escaped(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "_.@" else f"\\{sign}" for sign in text)


# Ranges ---------------------------------------------------------------------------------


def as_number(value: Any) -> int | None:
    """Return what a range compares: an integer, also one that is a text of ``params``."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    return None


def random_numbers(random: Random, number: int) -> Test:
    """Compare with a number or one between two; nothing longer than 18 digits passes."""
    edge = number + random.choice([Decimal(0), Decimal(0), Decimal("0.5")])
    if random.random() < 0.1:
        edge = Decimal(random.choice(HUGE))
    text, far = str(edge), edge + random.randint(-1, 60)

    def compared(test: Callable[[int], bool]) -> Callable[[Any], bool]:
        def passes(value: Any) -> bool:
            found = as_number(value)
            return found is not None and abs(found) < 10**18 and test(found)

        return passes

    return random.choice(
        [
            Test(f">{text}", compared(lambda n: n > edge)),
            Test(f">={text}", compared(lambda n: n >= edge)),
            Test(f"<{text}", compared(lambda n: n < edge)),
            Test(f"<={text}", compared(lambda n: n <= edge)),
            Test(f"[{text} TO *]", compared(lambda n: n >= edge)),
            Test(f"[ *  TO  {text}]", compared(lambda n: n <= edge)),
            Test(f"[{text} TO {far:f}]", compared(lambda n: edge <= n <= far)),
            Test("[* TO *]", lambda value: True),
        ]
    )


def random_moments(random: Random, value: str) -> Test:
    """Compare with a day, a minute or a second; what is written stands for all of it."""
    moment = datetime.fromisoformat(value)
    forms = [
        (moment.strftime("%Y-%m-%d"), moment.replace(hour=0, minute=0, second=0), 86_400),
        (moment.strftime("%Y-%m-%dT%H:%M"), moment.replace(second=0), 60),
        (moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment, 1),
        ((moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"), moment, 1),
    ]
    text, first, seconds = random.choice(forms)
    behind = first + timedelta(seconds=seconds)
    cut = value[: random.randrange(1, len(value))]

    def compared(test: Callable[[datetime], bool]) -> Callable[[Any], bool]:
        return lambda value: test(datetime.fromisoformat(value))

    return random.choice(
        [
            Test(f'"{text}"', compared(lambda t: first <= t < behind)),
            Test(f">{text}", compared(lambda t: t >= behind)),
            Test(f">={text}", compared(lambda t: t >= first)),
            Test(f"<{text}", compared(lambda t: t < first)),
            Test(f'<="{text}"', compared(lambda t: t < behind)),
            Test(f"[{text} TO {text}]", compared(lambda t: first <= t < behind)),
            Test(f"[* TO {text}]", compared(lambda t: t < behind)),
            Test(f"[{text} TO *]", compared(lambda t: t >= first)),
            Test(f"{escaped(cut)}*", lambda value: value.startswith(cut)),
        ]
    )


# Hostile queries ------------------------------------------------------------------------

PIECES = [
    "id", "runId", "status", "params.a", "params.", "createdTime", "isFinished", "x" * 90, ":", ":",
    ":", "-", "(", ")", "[", "]", '"', "*", "\\", ">", "<=", " ", " ", " AND ", " OR ", " TO ", "1",
    "9" * 30, "-1", "2018-06-21", "2018-06-21T10:00:00", "true", "null", "'", "%", "_", ";", "--",
    "/*", "$", "{", "\0", "\n", "\ud800", "\udfff", "é", "😀", "\u202e", "\ufeff", "success",
    "a@b.cz",
]  # fmt: skip
FORMS = ["{}:{}", "-{}:{}*", '{}:"{}"', "{}:[{} TO *]", "({}:>{})", "{}:({} OR 1)", "{}{}"]


def hostile_text(random: Random) -> str:
    """Return what is often a query and often none."""

    def some(most: int) -> str:
        return "".join(random.choice(PIECES) for _ in range(random.randint(1, most)))

    parts = (
        random.choice(FORMS).format(random.choice(PIECES[:7]), some(2))
        if random.random() < 0.8
        else some(6)
        for _ in range(random.choice([1, 1, 2, 5]))
    )
    return random.choice([" ", " OR ", ""]).join(parts)
