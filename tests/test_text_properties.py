"""What holds for any text of others: what is written of it is read back, and nothing in it commands a terminal."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from monitor.linear_regex import Pattern, TooMuch
from monitor.matchers import LabelMatcher, Op, format_matchers, parse_matchers
from monitor.plain import one_line
from tests.properties import settings_for

_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_OPS: st.SearchStrategy[Op] = st.sampled_from(["=", "!="])


@settings_for(examples=60)
@given(st.lists(st.builds(LabelMatcher, _TEXT.filter(bool), _OPS, _TEXT), min_size=1, max_size=3))
def test_matchers_that_are_written_are_read_back(matchers: list[LabelMatcher]) -> None:
    assert parse_matchers(format_matchers(matchers)) == tuple(matchers)


@settings_for(examples=100)
@given(st.text(max_size=60), st.integers(0, 40))
def test_a_line_of_others_is_one_line_that_commands_nothing(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert one_line(line) == line.strip()
    kept = "".join(letter for letter in text if letter.isprintable() and not letter.isspace())
    assert "".join(one_line(text).split()) == kept


_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\b", "^", "$", "(?:)", "é", "\\d"])
_PATTERNS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "*?", "+?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
        inner.map(lambda one: f"({one})"),
    ),
    max_leaves=6,
)


@settings_for(examples=100)
@given(_PATTERNS, st.text(st.sampled_from("abé1\n"), max_size=7))
def test_our_regular_expressions_find_what_pythons_do(pattern: str, text: str) -> None:
    try:
        ours = Pattern(pattern).groups(text)
    except TooMuch:
        return
    theirs = re.compile(f"(?:{pattern})", re.DOTALL).fullmatch(text)
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert ours[0] == text
