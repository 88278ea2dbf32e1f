from __future__ import annotations

import gc
import weakref

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.lexer import _Lexer
from monitor.promql.parse import parse, parse_selector
from monitor.promql.tree import Binary, Call, Negation, Number, Range, Selector, String, Subquery, When
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


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_0.5", 10.5), ("1e1_0", 1e10), ("iNf", float("inf")), ("0_8", 8.0), ("1d12h", 129600.0), ("1m500ms", 60.5)],
)
def test_odd_numbers_are_numbers(text: str, value: float) -> None:
    assert parse(text) == Number(value)


@pytest.mark.parametrize(
    "text", ["1e309", "1__0", "1_", "0x", "0xeee", "1e", "0b1", ".5.5", "1.5m", "5mm", "1f", "0x1p3"]
)
def test_what_only_looks_like_a_number_is_refused(text: str) -> None:
    assert "1:1: parse error: " in str(refused(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\xc3\xa9"', "é"),
        (r'"\303\251"', "é"),
        (r'"\u00e9\U000000e9"', "éé"),
        ("`a\nb\\`", "a\nb\\"),
        (r"'\''", "'"),
        (r'"\a\b\f\n\r\t\v\\\""', '\a\b\f\n\r\t\v\\"'),
    ],
)
def test_strings_are_read_as_go_reads_them(text: str, value: str) -> None:
    assert parse(text) == String(value)


@pytest.mark.parametrize("text", [r'"\q"', r"'\"'" + "'", r'"\ud800"', r'"\400"', '"a\nb"', r'"\x4"', '"\ufffd"'])
def test_what_go_does_not_read_is_no_string(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "sum by (a:b, on, offset, sum, 'a.b',) (x)",
        '{"foo.bar", "a.b"=~"c"}',
        'x:y{by="a", ' r'"\x41"' r'="b",}',
        "by + offset offset 5m",
        "SUM BY (a) (x) Or on() y",
        "x @ START()",
        "x @ end ( )[1h]",
        "x offset 0s offset --5m",
        "x[ 5m : 1m ] # a comment",
        "x[1 m]",
        "bottomk(2, x) without ()",
        "-1 ^ 2",
        "nan",
        "x\r\n+\ty",
    ],
)
def test_what_prometheus_takes_is_taken(text: str) -> None:
    parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("+x[5m]", '1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, '
                   'got "range vector"'),
        ("x[0s]", "1:3: parse error: duration must be greater than 0"),
        ("sum(x y)", '1:7: parse error: unexpected identifier "y" in aggregation'),
        ("sum by a (x)", '1:8: parse error: unexpected identifier "a" in grouping opts, expected "("'),
        ("sum by (without) (x)", "1:9: parse error: unexpected <without> in grouping opts, expected label"),
        ("x + on", "1:7: parse error: unexpected end of input in grouping opts, expected \"(\""),
        ("x * )", "1:5: parse error: unexpected right parenthesis ')'"),
        ("(x * )", '1:6: parse error: unexpected ")"'),
        ("x{a}", '1:4: parse error: unexpected "}" in label matching, expected label matching operator'),
        ("x[5m][5m]", "1:6: parse error: ranges only allowed for vector selectors"),
        ("x offset 5m[5m]", "1:12: parse error: no offset modifiers allowed before range"),
        ("x @ 5 @ 6", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        ("abs(x,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ('x{__name__="y"}', '1:1: parse error: metric name must not be set twice: "x" or "y"'),
        ("topk(x)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("x offset y", '1:10: parse error: unexpected identifier "y" in offset, expected number or duration'),
    ],
)  # fmt: skip
def test_errors_have_the_words_and_places_of_prometheus(text: str, message: str) -> None:
    assert str(refused(text)) == message


@pytest.mark.parametrize("text", ["x[5m+1m]", "x[(5m)]", "x offset (1m)", "x[5m:2*1m]", "x offset --5m*2"])
def test_arithmetic_of_durations_is_refused_as_experimental(text: str) -> None:
    assert "arithmetic of durations is experimental" in refused(text).message


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


def test_minus_binds_tighter_than_times() -> None:
    times = parse("-x * 2")
    assert isinstance(times, Binary)
    assert isinstance(times.left, Negation)


def test_a_plus_changes_nothing() -> None:
    assert parse("+1") == Number(1.0)
    assert parse("-1") == Number(-1.0)
    assert parse("+x") == parse("x")
    assert parse("x offset +5m") == parse("x offset 5m")
    assert parse("x offset -5m") == Selector((Matcher("__name__", "=", "x"),), When(-300_000))
    assert parse("x[+5m]") == parse("x[5m]")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("sum(rate(x[5m])", "1:4", "unclosed left parenthesis"),
        ("x{a=`\ufffd`}", "1:5", "invalid UTF-8 rune"),
        ('x{a="\ufffd"}', "1:5", "invalid UTF-8 rune"),
        ('x{a="\\400"}', "1:5", "escape sequence is an invalid Unicode code point"),
        ("sum(x))", "1:7", "unexpected right parenthesis"),
        ("rate(x[5m)", "1:10", 'unexpected ")" in subquery or range, expected ":" or "]"'),
        ("up ==", "1:6", "unexpected end of input"),
        ("\n  raet(x[5m])", "2:3", 'unknown function with name "raet": did you mean "rate"?'),
        ('x{a="b" or c="d"}', "1:9", 'unexpected identifier "or" in label matching'),
        ('x{a="b}', "1:5", "unterminated quoted string"),
        ("x{a=b}", "1:5", "expected string"),
        ("x y", "1:3", 'unexpected identifier "y"'),
        ("x[5x]", "1:3", "bad number or duration syntax"),
        ("x[400y]", "1:3", "duration out of range"),
        ("30m1h", "1:1", "not a valid duration string"),
        ("x @ 1e30", "1:1", "timestamp out of bounds"),
        ('x{a=~"a++"}', "1:6", "invalid nested repetition operator"),
        ('x{a=~"(?=a)"}', "1:6", "unsupported Perl syntax"),
        ("rate(x)", "1:6", 'expected type range vector in call to function "rate", got instant vector'),
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
        ("x offset 0.0001 offset 5m", "offset may not be set multiple times"),
        ("x[5m] offset 5m offset 5m", "offset may not be set multiple times"),
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
    ],
)
def test_what_is_too_long_or_too_deep_is_never_read(text: str) -> None:
    assert "more than" in refused(text).message or "longer than" in refused(text).message


def test_the_deepest_query_that_is_accepted_can_be_read() -> None:
    parse("-" * 149 + "x")
    parse("(" * 150 + "x" + ")" * 150)
    parse("+".join(["x"] * 151))


def test_a_selector_of_the_api_is_a_selector_alone() -> None:
    assert parse_selector('{__name__=~"a|b",c="d"}') == (Matcher("__name__", "=~", "a|b"), Matcher("c", "=", "d"))
    assert parse_selector("by") == (Matcher("__name__", "=", "by"),)
    for text, said in (
        ("rate(x[5m])", '1:5: parse error: unexpected "("'),
        ("sum by (a) (x)", "1:5: parse error: unexpected <by>"),
        ("x offset 5m", "1:3: parse error: unexpected <offset>"),
        ("x[5m]", '1:2: parse error: unexpected "["'),
        ("(x)", '1:1: parse error: unexpected "("'),
        ("", "1:1: parse error: unexpected end of input"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    ):
        with pytest.raises(PromQLError) as caught:
            parse_selector(text)
        assert str(caught.value) == said


def test_what_cuts_a_query_into_tokens_is_let_go_without_a_look_for_garbage() -> None:
    # What a start leaves for such a look is frozen with all that it keeps.
    gc.disable()
    try:
        for text in ("sum by (a) (up[5m])", "up["):
            lexer = _Lexer(text)
            gone = weakref.ref(lexer)
            lexer.run()
            del lexer
            assert gone() is None
    finally:
        gc.enable()
