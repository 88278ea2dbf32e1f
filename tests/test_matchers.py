"""Label matchers: what they mean, what is read, and how they are written. The readings are amtool 0.33's own."""

from __future__ import annotations

import pytest

from monitor.matchers import (
    LabelMatcher,
    MatcherError,
    Op,
    all_match,
    format_matchers,
    parse_matcher,
    parse_matchers,
    quote,
)

READ = [
    ("a=b", '{a="b"}'),
    ('a="b"', '{a="b"}'),
    ("a='b'", "{a=\"'b'\"}"),
    ('a=~"b|c"', '{a=~"b|c"}'),
    ('"a b"="c"', '{"a b"="c"}'),
    ('"a"=b', '{a="b"}'),
    ("a=", '{a=""}'),
    ("{a=b}", '{a="b"}'),
    ('{a="b",c=~"d"}', '{a="b",c=~"d"}'),
    ("a=b,c=d", '{a="b",c="d"}'),
    ('a="x,y",b=c', '{a="x,y",b="c"}'),
    (r'a="x\",y",b=c', r'{a="x\",y",b="c"}'),
    (" a = b ", '{a="b"}'),
    ("{a=b", '{a="b"}'),
    ("a==b", '{a="=b"}'),
    ("a=b=c", '{a="b=c"}'),
    ("a=~b=c", '{a=~"b=c"}'),
    ("a!=~b", '{a!="~b"}'),
    ("a!~b", '{a!~"b"}'),
    ("a=b c", '{a="b c"}'),
    ("a=b{c", '{a="b{c"}'),
    (r'a="\n\"x"', r'{a="\n\"x"}'),
    (r'a="\q"', r'{a="\\q"}'),
    (r"a=foo\nbar", r'{a="foo\nbar"}'),
    (r"a=\x", r'{a="\\x"}'),
    ("a=x\\", r'{a="x\\"}'),
    ("a=é", '{a="é"}'),
    ("🙂=a", '{🙂="a"}'),
    (r'"\u00e9\t"="\x41"', r'{"é\t"="A"}'),
    ("a.b=c", '{a.b="c"}'),
    ("1a=b", '{1a="b"}'),
    ("{}", "{}"),
    ("", "{}"),
    ("{a=b,}", '{a="b"}'),
    ("a=b,", '{a="b"}'),
    ('{"a.b"="c", d!="e"}', '{a.b="c",d!="e"}'),
]
"""Texts, and how what was read of them is written."""


@pytest.mark.parametrize(("text", "written"), READ)
def test_what_is_read_and_how_it_is_written(text: str, written: str) -> None:
    found = parse_matchers(text)
    assert format_matchers(found) == written
    assert parse_matchers(format_matchers(found)) == found
    if len(found) == 1 and "{" not in text[:1] and not text.endswith(","):
        assert parse_matcher(text) == found[0]


REFUSED = [
    ("a", "is no matcher", 0),
    ("=b", "is no matcher", 0),
    ("a!b", "is no matcher", 0),
    ('!x="1"', "is no matcher", 0),
    (",a=b", "a matcher is missing", 0),
    ("a=b,,c=d", "a matcher is missing", 4),
    ('a="b', "no closing double quote", 2),
    ('a="b"c', "needs a \\ before it", 4),
    ('a=b"c', "needs a \\ before it", 3),
    ('a=""""', "needs a \\ before it", 3),
    ('a=~"["', "missing closing ]", 3),
    ('a=~"(?=x)"', "invalid or unsupported Perl syntax", 3),
    ('a=b,c=~"("', "missing closing )", 7),
    (r'"\ud800"=b', "is no matcher", 0),
    ('"a', "is no matcher", 0),
    ('"a b" "c"', "is no matcher", 0),
    ('""=b', "is no matcher", 0),
    ('{"a b"=c', "is no matcher", 1),
    ('"a b"=c d', "is no matcher", 0),
]
"""Texts, words of what is said of them, and the place."""


@pytest.mark.parametrize(("text", "words", "position"), REFUSED)
def test_what_is_refused(text: str, words: str, position: int) -> None:
    with pytest.raises(MatcherError) as caught:
        parse_matchers(text)
    assert words in str(caught.value)
    assert caught.value.position == position


def test_one_is_asked_for_and_several_are_given() -> None:
    with pytest.raises(MatcherError):
        parse_matcher('{"a b"=c,d=e}')
    with pytest.raises(MatcherError, match="a matcher is missing"):
        parse_matcher("")


@pytest.mark.parametrize(
    ("op", "value", "matched", "not_matched"),
    [
        ("=", "b", ["b"], ["", "bb", "B"]),
        ("=", "", [""], ["b"]),
        ("!=", "b", ["", "bb"], ["b"]),
        ("!=", "", ["b"], [""]),
        ("=~", "b|cd", ["b", "cd"], ["", "bcd", "xb", "b\n"]),
        ("=~", ".*", ["", "b"], ["b\nc"]),  # the dot of Alertmanager's is no newline, unlike Prometheus'
        ("=~", "(?s).*", ["b\nc"], []),
        ("=~", ".+", ["b"], [""]),
        ("=~", "(?i)Gpu", ["gpu", "GPU"], ["gpus"]),
        ("=~", "^b$", ["b"], ["b\n", "ab"]),
        ("=~", r"\d+", ["12"], ["١"]),
        ("!~", "b|c", ["", "bc"], ["b", "c"]),
        ("!~", "", ["b"], [""]),
    ],
)
def test_what_matches(op: Op, value: str, matched: list[str], not_matched: list[str]) -> None:
    matcher = LabelMatcher("a", op, value)
    assert [one for one in matched + not_matched if matcher.matches({"a": one, "b": "other"})] == matched
    assert matcher.matches({}) == matcher.accepts("") == matcher.matches({"a": ""})


def test_all_have_to_match_and_none_always_do() -> None:
    both = parse_matchers("a=1,b=2")
    assert all_match(both, {"a": "1", "b": "2"})
    assert not all_match(both, {"a": "1"})
    assert all_match((), {})


def test_equal_ones_are_equal_and_can_be_keys() -> None:
    assert {parse_matcher("a=~b"), parse_matcher('a =~ "b"')} == {LabelMatcher("a", "=~", "b")}
    assert LabelMatcher("a", "=", "b") != LabelMatcher("a", "=~", "b")


def test_the_order_is_by_name_then_value_then_kind() -> None:
    mixed = parse_matchers('b="1",a=~"2",a!="1",a="1",a!~"1"')
    assert format_matchers(sorted(mixed, key=LabelMatcher.sort_key)) == '{a="1",a!="1",a!~"1",a=~"2",b="1"}'


def test_quoted_as_go_does() -> None:
    assert quote('é"\\\n\x00\u2028\U000e0001') == r'"é\"\\\n\x00\u2028\U000e0001"'
