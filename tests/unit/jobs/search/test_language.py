"""The grammar of ``q``, and the numbers and moments in it (contract 9.3)."""

from random import Random

import pytest

from provisioning.errors import QueryInvalid
from provisioning.jobs.search.conditions import condition_of
from provisioning.jobs.search.language import (
    DEEPEST,
    LONGEST,
    MOST_CONDITIONS,
    AllOf,
    AnyOf,
    Between,
    Bound,
    Equals,
    Has,
    Node,
    Not,
    StartsWith,
    parse,
)
from provisioning.jobs.search.listing import JobFields
from provisioning.jobs.search.time_ranges import Span, read_moment, read_number, read_past
from tests.unit.jobs.search.job_queries import PROJECT, hostile_text

URL = "http://service.example/queue/job/"


def has(name: str, text: str) -> Node:
    return Has(name, Equals(text))


def between(low: str | None, high: str | None, *, inclusive: bool = True) -> Between:
    return Between(
        Bound(low, inclusive) if low is not None else None,
        Bound(high, inclusive) if high is not None else None,
    )


A, B, C = has("a", "1"), has("b", "2"), has("c", "3")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a:1", A),
        (" a:1\n", A),
        ("((a:1))", A),
        ("-a:1", Not(A)),
        ("-(a:1)", Not(A)),
        ("a:1 b:2", AllOf((A, B))),
        ("a:1 AND b:2", AllOf((A, B))),
        ("a:1 OR b:2", AnyOf((A, B))),
        ("a:1 OR b:2 c:3", AnyOf((A, AllOf((B, C))))),
        ("a:1 AND b:2 OR c:3", AnyOf((AllOf((A, B)), C))),
        ("(a:1 OR b:2) c:3", AllOf((AnyOf((A, B)), C))),
        ("(a:1)(b:2)", AllOf((A, B))),
        ("-(a:1 OR b:2)c:3", AllOf((Not(AnyOf((A, B))), C))),
        ("a:(1)", A),
        ("a:(1 OR 2)", AnyOf((A, has("a", "2")))),
        ("a:(1 2 OR (3))", AnyOf((AllOf((A, has("a", "2"))), has("a", "3")))),
        ("-a:(>1 OR [2 TO 3])", Not(AnyOf((
            Has("a", between("1", None, inclusive=False)), Has("a", between("2", "3")),
        )))),
        ('a:"x y"', has("a", "x y")),
        (r'a:"x\"\\\*y*"', has("a", r'x"\*y*')),
        (r"a:\*x\ \(y\)\:z\*", has("a", "*x (y):z*")),
        ('a:""', has("a", "")),
        ("a:x*", Has("a", StartsWith("x"))),
        (r"a:x\**", Has("a", StartsWith("x*"))),
        ("a:b:c", has("a", "b:c")),
        ("a:-1", has("a", "-1")),
        ("a:AND", has("a", "AND")),
        ("AND:1 OR:2", AllOf((has("AND", "1"), has("OR", "2")))),
        ("a:ANDx", has("a", "ANDx")),
        ("token.description:a@b.cz", has("token.description", "a@b.cz")),
        ("a:[1 TO 2]", Has("a", between("1", "2"))),
        ("a:[ * TO\t2.5 ]", Has("a", between(None, "2.5"))),
        ("a:[* TO *]", Has("a", between(None, None))),
        ('a:["2018-06-21 10:00" TO *]', Has("a", between("2018-06-21 10:00", None))),
        ("a:>-1", Has("a", between("-1", None, inclusive=False))),
        ("a:>=1", Has("a", between("1", None))),
        ("a:<1", Has("a", between(None, "1", inclusive=False))),
        ('a:<="1"', Has("a", between(None, "1"))),
        ("a:>2018-06-21T10:00:00+02:00",
         Has("a", between("2018-06-21T10:00:00+02:00", None, inclusive=False))),
    ],
)  # fmt: skip
def test_a_query_is_read_as_it_is_meant(text: str, tree: Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("error", "field:value is expected in place of 'error', at character 1"),
        ("a:1 b", "field:value is expected in place of 'b', at character 5"),
        ('"a:1"', "field:value is expected"),
        ("status: success", "a value is expected in place of nothing, at character 8"),
        ("a:", "a value is expected"),
        (":1", "field:value is expected"),
        ("a :1", "field:value is expected"),
        ("- a:1", "field:value is expected"),
        ("--a:1", "field:value is expected"),
        ("+a:1", "field:value is expected"),
        ("!a:1", "field:value is expected"),
        ("NOT a:1", "field:value is expected in place of 'NOT'"),
        ("a:1 and b:2", "field:value is expected in place of 'and'"),
        ("AND a:1", "field:value is expected in place of 'AND'"),
        ("a:1 AND", "field:value is expected in place of nothing"),
        ("a:1 OR", "field:value is expected in place of nothing"),
        ("a:1 AND OR b:2", "field:value is expected in place of 'OR'"),
        ("a:1 && b:2", "field:value is expected in place of '&&'"),
        ("()", "field:value is expected in place of ')'"),
        ("(a:1", "'(' is never closed, at character 1"),
        ("a:(1", "'(' is never closed, at character 3"),
        ("a:1)", "')' closes nothing, at character 4"),
        ("a:()", "a value is expected"),
        ("a:(1 OR)", "a value is expected"),
        ("a:(AND)", "a value is expected in place of 'AND)'"),
        ("a:(-1)", "a '-' belongs before the field"),
        ('a:"x', "the quote is never closed, at character 3"),
        (r'a:"x\"', "the quote is never closed"),
        ('a:x"y"', "field:value is expected in place of '\"y\"'"),
        ("a:x\\", "field:value is expected in place of '\\'"),
        ("a:*x", "'*' may only end a value"),
        ("a:*", "'*' may only end a value"),
        ("a:x*y", "'*' may only end a value"),
        ("a:x**", "'*' may only end a value"),
        ("a:[1 TO 2", "'[' is never closed, at character 3"),
        ("a:[1", "'[' is never closed"),
        ("a:[1 2]", "[from TO to] is expected"),
        ("a:[1 to 2]", "[from TO to] is expected"),
        ("a:[1 TO]", "[from TO to] is expected"),
        ("a:[TO 2]", "[from TO to] is expected"),
        ("a:[]", "[from TO to] is expected"),
        ("a:[x TO 2]", "'x' is neither a number nor a date"),
        ("a:[1 TO 2018-13-01]", "'2018-13-01' is neither a number nor a date"),
        ("a:]", "a value is expected in place of ']'"),
        ("a:{1 TO 2}", "field:value is expected in place of 'TO'"),
        ("a:>", "a number or a date is expected"),
        ("a:>*", "a number or a date is expected"),
        ("a:> 1", "a number or a date is expected"),
        ("a:>x", "'x' is neither a number nor a date"),
        ("a:=>1 b", "field:value is expected in place of 'b'"),
        ("(" * (DEEPEST + 1) + "a:1" + ")" * (DEEPEST + 1), f"more than {DEEPEST} brackets"),
        ("(" * 3000, f"more than {DEEPEST} brackets"),
        ("a:(" + "1 " * (MOST_CONDITIONS + 1) + ")", f"more than {MOST_CONDITIONS} conditions"),
        ("a:" + "x" * LONGEST, f"longer than {LONGEST} characters"),
        ("x" * 500, f"in place of '{'x' * 40}...', at character 1"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(text: str, problem: str) -> None:
    with pytest.raises(QueryInvalid) as raised:
        parse(text)
    assert raised.value.message.startswith("Parameter 'q' is invalid: ")
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("status:[1 TO 2]", "'status' holds neither numbers nor dates"),
        ("runId:>5", "'runId' holds neither numbers nor dates"),
        ("durationSeconds:>2018-06-21", "'2018-06-21' cannot bound the field 'durationSeconds'"),
        ("startTime:[5 TO *]", "'5' cannot bound the field 'startTime'"),
        ("-(a:1 OR params.id:[* TO 2018-06-21])", "cannot bound the field 'params.id'"),
    ],
)
def test_a_range_fits_its_field(text: str, problem: str) -> None:
    with pytest.raises(QueryInvalid, match="^Parameter 'q' is invalid: ") as raised:
        condition_of(parse(text), JobFields(PROJECT, URL))
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0", Span(0, 0)),
        ("-7", Span(-7, -7)),
        ("1.0", Span(1, 1)),
        ("1.5", Span(2, 1)),
        ("-1.5", Span(-1, -2)),
        *((text, None) for text in ("", "1e5", "1.", ".5", "+1", " 1", "٣", "0x1", "1_0", "1\n")),
    ],
)
def test_a_number_as_it_is_written(text: str, span: Span | None) -> None:
    assert read_number(text) == span


NOON = 1_529_582_400


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1970-01-01", Span(0, 86_399)),
        ("2018-06-21", Span(NOON - 43_200, NOON + 43_199)),
        ("2018-06-21T12:00", Span(NOON, NOON + 59)),
        ("2018-06-21 12:00:00", Span(NOON, NOON)),
        ("2018-06-21T12:00:00Z", Span(NOON, NOON)),
        ("2018-06-21T12:00:00.000", Span(NOON, NOON)),
        ("2018-06-21T12:00:00.5Z", Span(NOON + 1, NOON)),
        ("2018-06-21T14:00:00+02:00", Span(NOON, NOON)),
        ("2018-06-21T14:00:00 0200", Span(NOON, NOON)),
        ("2018-06-21T05:30:00-0630", Span(NOON, NOON)),
        ("0001-01-01T00:00:00+23:59", Span(-62_135_683_140, -62_135_683_140)),
        ("9999-12-31T23:59:59-23:59", Span(253_402_387_139, 253_402_387_139)),
        *(
            (text, None)
            for text in (
                "", "2018", "2018-06", "20180621", "2018-6-1", "2018-02-30", "2018-06-21T24:00",
                "2018-06-21T12", "2018-06-21X12:00", "2018-06-21T12:00:60", "2018-06-21+02:00",
                "2018-06-21T12:00:00+25:00", "2018-06-21\n", "٢٠١٨-٠٦-٢١", "0000-01-01",
            )
        ),
    ],
)  # fmt: skip
def test_a_moment_as_it_is_written(text: str, span: Span | None) -> None:
    assert read_moment(text) == span


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("-2 days", "2020-03-29T12:00:00Z"),
        ("-1 Day", "2020-03-30T12:00:00Z"),
        ("-0 days", "2020-03-31T12:00:00Z"),
        ("-90seconds", "2020-03-31T11:58:30Z"),
        ("-30 minutes", "2020-03-31T11:30:00Z"),
        ("-36 hours", "2020-03-30T00:00:00Z"),
        ("-2 weeks", "2020-03-17T12:00:00Z"),
        ("-1 month", "2020-02-29T12:00:00Z"),
        ("-13 months", "2019-02-28T12:00:00Z"),
        ("-3 month", "2019-12-31T12:00:00Z"),
        ("-1 years", "2019-03-31T12:00:00Z"),
        ("-2019 years", "0001-03-31T12:00:00Z"),
        ("-2020 years", "1970-01-01T00:00:00Z"),
        (f"-{'9' * 5000} months", "1970-01-01T00:00:00Z"),
    ],
)
def test_a_time_before_now(text: str, before: str) -> None:
    now = read_moment("2020-03-31T12:00:00Z")
    assert now
    assert read_past(text, now.first) == read_moment(before)


@pytest.mark.parametrize(
    "text", ["", "2 days", "-2", "-2 fortnights", "--2 days", "-2 days ago", "-2 ſeconds"]
)
def test_no_time_before_now(text: str) -> None:
    assert read_past(text, NOON) is None


def test_hostile_queries_are_read_or_refused() -> None:
    random = Random(4)
    fields = JobFields(PROJECT, URL)
    read = 0
    for _ in range(10_000):
        text = hostile_text(random)
        try:
            condition_of(parse(text), fields)
        except QueryInvalid:
            continue
        read += 1
    assert 1000 < read < 9000
