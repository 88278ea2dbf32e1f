from __future__ import annotations

import re

import pytest

from monitor.promql.regex import RegexError, expand, to_python


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
    assert expand(template, found) == result
