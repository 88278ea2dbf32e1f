from __future__ import annotations

import random
import re

import pytest

from monitor.go_regex import RegexError, expand, to_python
from monitor.linear_regex import LONGEST_TEXT, compiled
from monitor.promql.errors import PromQLError
from monitor.samples import make_labels
from monitor.store.head import Head
from tests.promql.store import MINUTE, at, load


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(f"(?:{to_python(pattern)})", text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a.*|b", "axx", "c"),
        ("(?i)abc", "ABC", "abd"),
        ("x(?i)y|z", "xY", "X"),
        ("x(?i)y|z", "Z", "Xy"),
        ("(?i:a)b", "Ab", "AB"),
        ("(?-s).", "a", "\n"),
        (".", "\n", ""),
        ("a$", "a", "a\n"),
        (r"\d+", "12", "١٢"),
        (r"\w", "a", "é"),
        (r"[[:alpha:]-]+", "a-b", "1"),
        ("[]a]", "]", "b"),
        (r"[^\d]", "a", "1"),
        (r"[\D]", "é", "1"),
        ("a{,3}", "a{,3}", "aaa"),
        (r"\Qa.b\E+", "a.bb", "axb"),
        (r"\x41\x{42}\103", "ABC", "abc"),
        ("(?P<n>a)(?<m>b)", "ab", "a"),
        ("^*a", "a", "^a"),
        ("[a&&b~~|]", "&", "c"),
        ("(?U)a+b", "aab", "b"),
        ("(?)a", "a", ""),
        ("", "", "a"),
    ],
)
def test_it_matches_what_re2_matches(pattern: str, yes: str, no: str) -> None:
    assert matches(pattern, yes)
    assert not matches(pattern, no)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "a**",
        "a++",
        "*",
        "(?=a)",
        "(?!a)",
        "(?>a)",
        r"\1",
        "[z-a]",
        "[a",
        "x{1001}",
        "(x{100}){11}",
        r"\Z",
        "\\",
    ],
)
def test_what_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(RegexError):
        to_python(pattern)


def test_the_flag_u_makes_repetitions_lazy() -> None:
    found = re.fullmatch(to_python("(?U)(a*)(a*?)(?-U:(a*))"), "aaa")
    assert found is not None
    assert found.groups() == ("", "aaa", "")


@pytest.mark.parametrize(
    ("template", "result"),
    [("$1-$2", "ab-cd"), ("${1}x", "abx"), ("$1x", ""), ("$$1", "$1"), ("$9", ""), ("$name", "cd"), ("a$", "a$")],
)
def test_templates_are_expanded_as_go_does(template: str, result: str) -> None:
    found = re.fullmatch("(ab)(?P<name>cd)", "abcd")
    assert found is not None
    assert expand(template, (found[0], *found.groups()), found.re.groupindex) == result


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a|aa)+b",
        "(?:a?){30}a{30}b",
        "(.*)*x",
        "(a*)*b",
        ".*.*.*.*.*x",
        "(.+)+(.+)+x",
        "(?i)(A+)+B",
        "a?" * 200 + "a" * 200 + "b",
        "(a|aa)" * 100 + "b",
    ],
)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    regex = compiled(to_python(pattern))
    assert not regex.fits("a" * 200)  # with Python's own this would never end
    assert at(load(MINUTE, x__a_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=[1.0]), f'x{{a=~"{pattern}"}}', 0) == {}


def test_nor_does_one_on_a_short_text() -> None:
    assert not compiled(to_python("x|(a*)(|a*){233}")).fits("c")
    assert not compiled(to_python("(?:a?){200}b")).fits("aaaa")


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("", LONGEST_TEXT),
        ("a|b|c" * 100, LONGEST_TEXT),  # choices one beside the other
        ("vm-[0-9]{1,3}(?::[0-9]+)?", LONGEST_TEXT),
        (".*foo.*", 446),  # 447² ways
        ("a{3}b{2,}", LONGEST_TEXT),
        ("(?:a|b){2}", -1),
        ("(?:a|b)" * 18, -1),
        ("(?:a|b)" * 17, LONGEST_TEXT),
        ("(?:a?b)?" * 11, LONGEST_TEXT),  # 3 ways each
        ("(?:a?b)?" * 12, -1),
    ],
)
def test_python_is_asked_where_it_has_few_ways_to_try(pattern: str, longest: int) -> None:
    regex = compiled(to_python(pattern))
    assert regex.is_quick("a" * max(longest, 0)) == (longest >= 0)
    assert not regex.is_quick("a" * (longest + 1))


def test_both_ways_of_matching_agree() -> None:
    rng = random.Random(3)
    atoms = ["a", "b", ".", "[ab]", "[^a]", "(a|b)", "(?:ab|a)", "(a*)", "(b+)?", "\\d", "a?", ""]
    compared = 0
    for _ in range(3000):
        pattern = "".join(rng.choice(atoms) + rng.choice(("", "", "*", "+", "?", "{1,2}")) for _ in range(4))
        try:
            regex = compiled(to_python(pattern))
        except (RegexError, re.error):
            continue
        for text in ("", "a", "ab", "aab", "abba", "ba1", "abab", "aaaaaaa"):
            slow = regex._slowly(text)
            assert (slow is None) == (regex._fast.fullmatch(text) is None), (pattern, text)
            compared += slow is not None
    assert compared > 3000


def test_a_pattern_that_takes_too_much_is_an_error_and_no_answer() -> None:
    store = Head("j", "i")
    store.append(make_labels("x", a="a" * 4000), 0, 1.0)
    with pytest.raises(PromQLError, match="takes more than"):
        at(store, 'x{a=~"(?:a*){0,300}b"}', 0)
