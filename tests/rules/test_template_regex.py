"""Regular expressions in templates, against Python's own where the two must agree, and as Go has them where not."""

from __future__ import annotations

import random
import re

import pytest

from monitor.go_regex import RegexError, to_python
from monitor.rules.template_regex import matches, replace_all

ATOMS = [
    "a",
    "b",
    "[ab]",
    ".",
    "(a|b)",
    "(?:ab|a)",
    "c",
    r"\d",
    "[^a]",
    "(b)",
    "^",
    "$",
    r"\b",
    "(?i:A)",
    "[[:alpha:]]",
]
ATOMS += ["(?P<n>ab)", r"\.", "(a?)", "(?s:.)", "(?m:^b)", r"\x41", "[]a]", "(?i)B"]
REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,2}", "{0}", "{1,}", "*?", "+?", "??"]


def patterns(rng: random.Random) -> str:
    text = "".join(rng.choice(ATOMS) + rng.choice(REPEATS) for _ in range(rng.randrange(1, 5)))
    if rng.random() < 0.3:
        text = f"({text}){rng.choice(['', '?', '|a'])}"
    return f"{text}|{rng.choice(ATOMS)}" if rng.random() < 0.2 else text


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_python_finds(seed: int) -> None:
    rng = random.Random(seed)
    compared = 0
    for _ in range(300):
        pattern = patterns(rng)
        text = "".join(rng.choice("aabcAB1. \n") for _ in range(rng.randrange(9)))
        try:
            python = re.compile(to_python("(?-s)" + pattern), re.DOTALL)
        except RegexError:
            continue
        found = python.search(text)
        assert matches(pattern, text) == (found is not None), (pattern, text)
        if found is not None and found.end() > found.start():
            # The first match alone: Go and Python differ in what an empty match behind it is.
            marked = replace_all(pattern, "<$0>", text)
            assert marked.startswith(f"{text[: found.start()]}<{found[0]}>"), (pattern, text)
        compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "expected"),
    [
        ("a*", "x", "baac", "xbxcx"),  # nothing right behind a match is no match
        ("(|a)*", "-", "aab", "-a-a-b-"),
        ("(a*)+", "<$1>", "aab", "<aa>b<>"),
        ("(a|ab)(c|bcd)(d*)", "<$1|$2|$3>", "abcd", "<a|bcd|>"),
        ("a*?", "-", "aab", "-a-a-b-"),
        ("(a)(b)?", "$1-$2-${3}-$$-$x-$1x", "abac", "a-b--$--a---$--c"),
        ("(?P<host>.*):(?P<port>[0-9]+)", "${port}@$host", "n7:9519", "9519@n7"),
        (".", "x", "a\nb", "x\nx"),
        ("(?s).", "x", "a\nb", "xxx"),
        ("(?m)^", "> ", "a\nb", "> a\n> b"),
        ("", "-", "", "-"),
        ("é+", "e", "caféé", "cafe"),
        ("(a)", "<${²}${٣}>", "a", "<>"),  # digits, but none of a number
        ("a{2,}", "x", "aaa a", "x a"),
    ],
)
def test_it_replaces_as_go_does(pattern: str, replacement: str, text: str, expected: str) -> None:
    assert replace_all(pattern, replacement, text) == expected


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "a{1001}", "[b-a]", "*"])
def test_what_prometheus_refuses_is_refused_each_time(pattern: str) -> None:
    for _ in range(2):
        with pytest.raises(RegexError, match="error parsing regexp") as caught:
            matches(pattern, "a")
        assert "(?-s)" not in str(caught.value)
