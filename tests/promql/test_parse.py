from __future__ import annotations

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.parse import parse, parse_selector
from monitor.promql.tree import Binary, Call, Negation, Number, Range, Selector, Subquery, When
from monitor.selector import Matcher


def refused(text: str) -> PromQLError:
    with pytest.raises(PromQLError) as caught:
        parse(text)
    return caught.value


def test_a_selector_has_its_name_as_a_matcher() -> None:
    expr = parse('up{job="a",b!~"c.*"} offset 5m')
    assert expr == Selector(
        (Matcher("job", "=", "a"), Matcher("b", "!~", "c.*"), Matcher("__name__", "=", "up")), When(300_000)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000", 1000.0), ("0x1F", 31.0), ("017", 15.0), ("08", 8.0), (".5", 0.5), ("1e3", 1000.0), ("5m", 300.0)],
)
def test_numbers_are_read_as_go_reads_them(text: str, value: float) -> None:
    assert parse(text) == Number(value)


def test_times_of_at_may_be_negative_and_have_fractions() -> None:
    expr = parse("x @ -1.5")
    assert isinstance(expr, Selector)
    assert expr.when == When(0, -1500)
    assert parse("x @ 1.0005 offset 1m") == Selector((Matcher("__name__", "=", "x"),), When(60_000, 1001))
    assert parse("x @ end()") == Selector((Matcher("__name__", "=", "x"),), When(0, "end"))


def test_ranges_and_subqueries_keep_milliseconds() -> None:
    expr = parse("x[1m500ms]")
    assert isinstance(expr, Range)
    assert expr.range_ms == 60_500
    sub = parse("rate(x[5m])[1h:30s] offset -1m")
    assert isinstance(sub, Subquery)
    assert (sub.range_ms, sub.step_ms, sub.when) == (3_600_000, 30_000, When(-60_000))
    assert isinstance(sub.inner, Call)


def test_minus_binds_weaker_than_power() -> None:
    assert isinstance(parse("-x ^ 2"), Negation)
    right = parse("2 ^ 3 ^ 2")
    assert isinstance(right, Binary)
    assert right.left == Number(2.0)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("sum(rate(x[5m])", "1:4", "unclosed left parenthesis"),
        ("sum(x))", "1:7", "unexpected right parenthesis"),
        ("rate(x[5m)", "1:7", "unclosed left bracket"),
        ("up ==", "1:6", "unexpected end of input"),
        ("\n  raet(x[5m])", "2:3", 'unknown function with name "raet": did you mean "rate"?'),
        ('x{a="b" or c="d"}', "1:9", 'unexpected identifier "or" in label matching'),
        ('x{a="b}', "1:5", "unterminated quoted string"),
        ("x{a=b}", "1:5", "expected string"),
        ("x y", "1:3", 'unexpected identifier "y"'),
        ("x[5x]", "1:3", "bad number or duration syntax"),
        ("x[400y]", "1:3", "duration out of range"),
        ("30m1h", "1:1", "not a valid duration string"),
        ("x @ 1e30", "1:5", "timestamp out of bounds"),
        ('x{a=~"a++"}', "1:6", "invalid nested repetition operator"),
        ('x{a=~"(?=a)"}', "1:6", "unsupported Perl syntax"),
        ("rate(x)", "1:1", 'expected type range vector in call to function "rate", got instant vector'),
        ("mad_over_time(x[5m])", "1:1", "is experimental"),
        ("limitk(2, x)", "1:1", "is experimental"),
        ("histogram_avg(x)", "1:1", "native histograms"),
        ("holt_winters(x[5m], 0.5, 0.5)", "1:1", "removed in Prometheus 3"),
        ("é", "1:1", "unexpected character"),
        ("", "1:1", "no expression found in input"),
        ("# only a comment", "1:1", "no expression found in input"),
    ],
)
def test_an_error_says_where_and_what(text: str, where: str, message: str) -> None:
    error = refused(text)
    assert str(error).startswith(f"{where}: parse error: ")
    assert message in error.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "at least one non-empty matcher"),
        ('{a=~".*"}', "at least one non-empty matcher"),
        ("1 == 1", "comparisons between scalars must use BOOL modifier"),
        ("x and 1", "not allowed in binary scalar expression"),
        ("x + bool y", "bool modifier can only be used on comparison operators"),
        ("x + on(a) group_left(a) y", "must not occur in ON and GROUP clause at once"),
        ("x and on(a) group_left y", "no grouping allowed"),
        ("sum(1)", "expected type instant vector"),
        ('sum by ("") (x)', "invalid label name for grouping"),
        ('-"a"', "unary expression only allowed"),
        ("round(x, 1, 2)", "expected at most 2 argument(s)"),
        ('label_replace(x, "a", "b")', "expected 5 argument(s)"),
        ("x offset 5m offset 5m", "offset may not be set multiple times"),
    ],
)
def test_types_and_forms_are_checked_as_in_prometheus(text: str, message: str) -> None:
    assert message in refused(text).message


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000 + "x" + ")" * 2000,
        "-" * 4000 + "x",
        "+".join(["x"] * 2000),
        "abs(" * 900 + "x" + ")" * 900,
        "x" * 5000,
        " or ".join(["x"] * 600),
        "[" * 4000,
    ],
)
def test_what_would_crash_the_parser_never_reaches_it(text: str) -> None:
    assert "more than" in refused(text).message or "longer than" in refused(text).message


def test_the_deepest_query_that_is_accepted_can_be_read() -> None:
    parse("-" * 149 + "x")
    parse("(" * 150 + "x" + ")" * 150)
    parse("+".join(["x"] * 151))


def test_a_selector_of_the_api_is_a_selector_alone() -> None:
    assert parse_selector('{__name__=~"a|b",c="d"}') == (Matcher("__name__", "=~", "a|b"), Matcher("c", "=", "d"))
    for text in ("rate(x[5m])", "x offset 5m", "x[5m]"):
        with pytest.raises(PromQLError, match="expected a series selector"):
            parse_selector(text)
