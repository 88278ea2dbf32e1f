"""Expressions that are wrong, or might be: right ones with something changed, and such as are made wrong on purpose.

Most are refused by Prometheus. What matters is that we refuse the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from monitor.promql.signatures import AGGREGATIONS, EXPERIMENTAL, FUNCTIONS, NATIVE_HISTOGRAMS
from tests.promql.generate import Expressions

TOKEN = re.compile(
    r"""\s+|\#[^\n]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|[A-Za-z_:][A-Za-z0-9_:]*|[0-9][0-9A-Za-z_.]*|=~|!~|==|!=|>=|<=|.""",
    re.DOTALL,
)


def _words(text: str) -> list[str]:
    return text.split()


WORDS = _words("""
by without on ignoring group_left group_right bool offset and or unless atan2 start end sum topk count_values rate x NaN
inf __name__ SUM Offset BY
""")
MARKS = [
    *"()[]{},@:+-*/%^=<>!~.#\\\"'`$&;?",
    *_words("== != >= <= =~ !~ () {} [5m] [5m:] [5m:1m] [:] [] start() end()"),
]
NUMBERS = _words("""
0 1 -1 1e3 1e 1e+ 0x1F 0x 0xg 1_000 1__0 _1 1_ 1.5 1. .5 . 1..2 .5.5 017 08 0b11 0o17 1e309 9223372036854775808 1f 1E-3
0x1_F 0x_1 0_1 1_0.5 1e1_0 0xeee 5m 1h30m 30m1h 5ms 1m500ms 0s 1y 300y 5 5x 1d12h 5mm 1.5m m5 -5m 1w 1s1s 1h1h 1e3s 0x5m
1_0m Inf +Inf nan 1e-10 0.0004 2562047h
""")
STRINGS = [
    *_words(r"""
"" "a" 'a' `a` "a 'a `a "\n" "\q" '\'' '\"' "\'" "\x41" "\xff" "\u00e9" "\ud800" "\U0010ffff" "\U00110000" "\101" "\400"
"\1" "\" "é" "\xc3\xa9" "{{" "\\" "\/" '\xzz' "\u12" "\0" "\000" "a.b" "0"
"""),
    *('" "', '"a\nb"', "`a\nb`"),
]
PATTERNS = _words(r"""
a a+ a++ a** a{2} a{2,} a{,2} a{2,1} a{1001} a{1000} (a{1000}){2} (a a) [a a] [z-a] (?i)a (?=a) (?!a) (?<=a) (?P<n>a)
(?<n>a) (?P<n>a)(?P<n>b) (?P=n) \\d \\Z \\1 \\pL \\p{Greek} \\p{Nope} \\Q.\\E \\x41 \\x{41} \\x{110000} \\8 \\C (?U)a
(?s). (?-s). (?m)^a$ (?x)a [[:alpha:]] [[:nope:]] [^a] []a] [] [a-] [a-\\d] a|b | () (|a) * +a ? ^* $+ a?+ (?:a) (?#c)a
(?>a) \\b \\z \\A x*? x{2}{3} [\\w-z] \\_ \\é [[.a.]] (?i-s:a) (?-) (?) (?i \\N a{0} a{0,0} (?P<>a) (?P<1>a) [a-b-c]
""")
LABELS = [*_words("""a b le __name__ 1a a-b a.b "a" "a.b" "" a:b by on é "é" 'a' `a` _ sum 5m without inf"""), ""]
OPERATORS = _words("+ - * / % ^ atan2 == != > < >= <= and or unless = =~ ! !~ &&")


class Broken:
    """Makes them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._right = Expressions(rng)
        self.kinds: tuple[Callable[[], str], ...] = (
            self._tokens, self._tokens, self._tokens, self._characters, self._call, self._aggregation, self._matching,
            self._selector, self._time, self._literal, self._types,
        )  # fmt: skip

    def one(self) -> tuple[str, str]:
        """A text, which is not empty, and the name of what made it."""
        while True:
            make = self._rng.choice(self.kinds)
            if text := make():
                return text, make.__name__.lstrip("_")

    def _text(self, depth: int | None = None) -> str:
        return self._right.any(self._rng.choice((0, 1, 1, 2)) if depth is None else depth)

    def _tokens(self) -> str:
        """Tokens left out, doubled, exchanged, put in or replaced."""
        rng = self._rng
        tokens = TOKEN.findall(self._text())
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if not tokens:
                break
            at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
            match rng.randrange(6):
                case 0:
                    del tokens[at]
                case 1:
                    tokens.insert(other, tokens[at])
                case 2:
                    tokens[at], tokens[other] = tokens[other], tokens[at]
                case 3:
                    tokens[at] = self._any_token()
                case 4:
                    tokens.insert(at, f" {self._any_token()} ")
                case _:
                    tokens.insert(at, rng.choice((" ", "\n", "# c\n", "\t", "")))
        return "".join(tokens)

    def _any_token(self) -> str:
        kind: list[str] = self._rng.choice((WORDS, MARKS, NUMBERS, STRINGS, OPERATORS))
        return self._rng.choice(kind)

    def _characters(self) -> str:
        """Single characters left out, put in or replaced, or the end cut off."""
        rng, text = self._rng, self._text()
        for _ in range(rng.choice((1, 1, 2))):
            if not text:
                break
            at = rng.randrange(len(text))
            match rng.randrange(4):
                case 0:
                    text = text[:at] + text[at + 1 :]
                case 1:
                    text = text[:at] + rng.choice("()[]{},:@+-*\"'`_0159emsx=~!<> \n#.\\é$") + text[at:]
                case 2:
                    text = text[:at] + rng.choice('()[]{},:@+-"_0eE=~! ') + text[at + 1 :]
                case _:
                    text = text[:at] if rng.random() < 0.5 else text[at:]
        return text

    def _argument(self) -> str:
        rng = self._rng
        return rng.choice(
            (
                self._right.selector(),
                self._right.range(1),
                self._right.scalar(1),
                rng.choice(STRINGS),
                rng.choice(NUMBERS),
                "",
                f"({self._right.range(0)})",
            )
        )

    def _call(self) -> str:
        """Functions with the wrong number and types of arguments."""
        rng = self._rng
        name = rng.choice(
            (*FUNCTIONS, *sorted(EXPERIMENTAL), *sorted(NATIVE_HISTOGRAMS), "nope", "RATE", "holt_winters", "fill")
        )
        signature = FUNCTIONS.get(name)
        samples = {"vector": "x", "matrix": "x[5m]", "scalar": "1", "string": '"a"'}
        arguments = [samples[kind] for kind in signature.arguments] if signature else [self._argument()]
        for _ in range(rng.choice((0, 1, 1, 2))):
            match rng.randrange(3):
                case 0 if arguments:
                    arguments[rng.randrange(len(arguments))] = self._argument()
                case 1 if arguments:
                    arguments.pop()
                case _:
                    arguments.insert(rng.randrange(len(arguments) + 1), self._argument())
        return f"{name}{rng.choice(('', '', ' '))}({', '.join(arguments)}{rng.choice(('', '', '', ','))})"

    def _grouping(self) -> str:
        rng = self._rng
        names = [rng.choice(LABELS) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        return f"({rng.choice((',', ', '))[: rng.choice((1, 2))].join(names)}{rng.choice(('', '', '', ',', ',,'))})"

    def _aggregation(self) -> str:
        """Aggregations whose clauses are doubled, misplaced, or name what is no label."""
        rng = self._rng
        name = rng.choice((*AGGREGATIONS, "limitk", "limit_ratio", "median"))
        if rng.random() < 0.2:
            name = name.upper()
        clauses = ["", ""]
        for i in range(rng.choice((0, 1, 1, 1, 2))):
            clauses[i if rng.random() < 0.5 else 1 - i] = (
                f" {rng.choice(('by', 'without', 'BY', 'on'))} {self._grouping()} "
            )
        arguments = ", ".join(self._argument() for _ in range(rng.choice((0, 1, 1, 2, 2, 3))))
        if name.lower() in AGGREGATIONS and rng.random() < 0.5:
            arguments = {"scalar": "2, x", "string": '"v", x'}.get(AGGREGATIONS[name.lower()] or "", "x")
        return f"{name}{clauses[0]}({arguments}{rng.choice(('', '', '', ','))}){clauses[1]}"

    def _matching(self) -> str:
        """Operators whose matching does not fit them or their sides."""
        rng = self._rng
        sides = [rng.choice((self._argument(), "x", "y", "1", "(x)", "-x", "x and y")) for _ in range(2)]
        out = rng.choice(OPERATORS)
        if rng.random() < 0.4:
            out += rng.choice((" bool", " BOOL", "bool"))
        if rng.random() < 0.6:
            out += f" {rng.choice(('on', 'ignoring', 'by', 'ON'))}{rng.choice((' ', ''))}{self._grouping()}"
        if rng.random() < 0.4:
            group = rng.choice(("group_left", "group_right", "GROUP_LEFT", "group_left group_right"))
            out += f" {group} {rng.choice(('', self._grouping()))}"
        return f"{sides[0]} {out} {sides[1]}"

    def _selector(self) -> str:
        """Selectors with odd labels, operators, values and regular expressions."""
        rng = self._rng
        parts = []
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            name = rng.choice(LABELS)
            op = rng.choice(("=", "!=", "=~", "!~", "=~", "==", ">", "", "~="))
            value = rng.choice(STRINGS) if rng.random() < 0.5 else f'"{rng.choice(PATTERNS)}"'
            parts.append(
                rng.choice((f"{name}{op}{value}",) * 6 + (name, rng.choice(STRINGS), f"{name} {op} {value} or b='1'"))
            )
        metric = rng.choice(
            ("x", "", "", "x:y", ":x", "x:", "by", "on", "bool", "start", "nan", "offset", "atan2", "1x", '"x"', "sum")
        )
        return f"{metric}{{{rng.choice((',', ', ', ' '))[:2].join(parts)}{rng.choice(('', '', '', ',', ',,'))}}}"

    def _time(self) -> str:
        """Ranges, subqueries, offsets and times that are wrong, doubled or at the wrong place."""
        rng = self._rng
        text = rng.choice(("x", "x", "x{a='1'}", "(x)", "rate(x[5m])", "1", "sum(x)", "-x", "x + y", '"a"'))
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            length, step = rng.choice(NUMBERS), rng.choice((*NUMBERS, "", ""))
            text += rng.choice(
                (
                    f"[{length}]",
                    f"[{rng.choice(('5m', '1h'))}]",
                    f"[{length}:{step}]",
                    f"[{rng.choice(('5m', '1h'))}:{step}]",
                    f" offset {rng.choice(('', '', '-', '- ', '+', '--'))}{length}",
                    f" @ {rng.choice(('', '', '-', '+', '- '))}{rng.choice(NUMBERS)}",
                    f" @ {rng.choice(('start()', 'end()', 'start', 'end ( )', 'START()', 'time()', 'x', '(1)'))}",
                    rng.choice(
                        (
                            " smoothed",
                            " anchored",
                            "[5m:1m:1s]",
                            "[5m+1m]",
                            "[5m,1m]",
                            " offset (1m)",
                            "[(5m)]",
                            "[ 5m ]",
                            "[5m : 1m]",
                        )
                    ),
                )
            )
        return text if rng.random() < 0.6 else f"{rng.choice(('rate', 'sum', 'max_over_time', 'absent'))}({text})"

    def _literal(self) -> str:
        """Numbers and strings."""
        rng = self._rng
        literal = str(rng.choice((*NUMBERS, *STRINGS)))
        return rng.choice(
            ("{}", "{}", "x + {}", "-{}", "+ {}", "vector({})", "x{{a={}}}", "{{{}}}", "topk({}, x)", "({})", "{} # c")
        ).format(literal)

    def _types(self) -> str:
        """Whatever type where another is wanted."""
        rng = self._rng
        inner = self._argument()
        other = self._argument()
        forms = (
            "-{}",
            "+{}",
            "-+-{}",
            "({})",
            "{} + {}",
            "{} > {}",
            "{}[5m:]",
            "{} and {}",
            "sum({})",
            "{} > bool {}",
            "(({})) == 1",
        )
        return rng.choice(forms).format(inner, other)
