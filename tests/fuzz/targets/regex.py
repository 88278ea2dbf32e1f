"""Regular expressions of rules, silences and queries, and the texts that they are held against."""

from __future__ import annotations

import re
from collections.abc import Iterable

from monitor.go_regex import RegexError, expand, to_python
from monitor.linear_regex import Compiler, Pattern, Search, TooMuch
from monitor.matchers import LabelMatcher, MatcherError, parse_matcher, parse_matchers
from tests.fuzz.target import Broken, Target, text_of


def run(data: bytes) -> None:
    """A pattern, a zero byte, a text. Our linear matcher agrees with Python's on short texts, where that is quick."""
    pattern, _, subject = text_of(data).partition("\0")
    for read in (parse_matcher, parse_matchers):
        try:
            read(pattern)
        except MatcherError:
            continue
    try:
        matcher = LabelMatcher("a", "=~", pattern)
        matcher.accepts(subject)
        if parse_matcher(str(matcher)) != matcher:
            raise Broken(f"{matcher} is another when it is read again")
    except (MatcherError, TooMuch):
        pass
    try:
        translated = to_python(pattern)
    except RegexError:
        return
    ours = Pattern(translated)
    try:
        found = ours.groups(subject)
    except TooMuch:
        return
    if found is not None:
        expand(subject, found, ours.names)
    _compare(translated, subject[:8])


def _compare(translated: str, subject: str) -> None:
    if len(re.findall(r"[*+?{]", translated)) > 4 or re.search(r"\{\d*,?\d\d", translated):
        return  # Python's may take for ever
    if not subject and r"\B" in translated:
        return  # which stands in an empty text for Go and our matcher, and for Python from 3.14 on
    try:
        program = Compiler(rf"\A(?:{translated})\Z").program()
        slow = Search(program, subject, 100_000).find(0)
    except TooMuch:
        return
    quick = re.compile(f"(?:{translated})", re.DOTALL).fullmatch(subject)
    if (slow is None) != (quick is None):
        raise Broken(f"{translated!r} on {subject!r}: {slow!r} for us, {quick!r} for Python")


def seeds() -> Iterable[bytes]:
    """Patterns with each construct."""
    for text in (
        "a.*b\0acb", "(a+)+$\0aaaaaaaaaaaaaaaaaaaaaaaa!", "(?i)X|y{2,3}?\0YYY", "[[:alpha:]\\d-]+\0ab1-", "^\\bfoo\\B.$\0fooo",
        "(?P<n>.)(?:b|c)?\0ab", "\\Qa.b\\E\0a.b", "[^\\n]\\x{41}\\x41\\101\0zAAA", "(?s-m:.)(?U)a*\0\n", "(|a|b)*c{0,2}\0ababcc",
        'a=~"x|y"\0', '{a="b",c!~"d.*"}\0', "a{1000}{2}\0a", "\\C\\pL\\z\0", "(((((a)))))\0a", "[]a]|[^]a]\0]",
    ):  # fmt: skip
        yield text.encode()


TARGET = Target(
    what="regular expressions and matchers of rules, silences and queries",
    promise="our linear matcher agrees with Python's; a matcher that is written is read back the same",
    modules=("monitor.go_regex", "monitor.linear_regex", "monitor.matchers"),
    run=run,
    seeds=seeds,
    words=(
        "(?i)",
        "(?P<a>",
        "[[:alpha:]]",
        "\\d",
        "\\b",
        "{2,3}",
        "\\Q",
        "\\E",
        "\\x{41}",
        "(?:",
        "[^",
        "|",
        "*?",
        "\0",
    ),
    longest=120,
)
