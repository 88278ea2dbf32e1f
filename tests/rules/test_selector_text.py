"""Where the selectors of a query stand, and what weight they have."""

from __future__ import annotations

import pytest

from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.rules.selector_text import SelectorText, selector_texts


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1 + time()", []),
        ("up", [SelectorText("up", 0)]),
        ('up{a="}#("} # {x}', [SelectorText('up{a="}#("}', 0)]),
        ("rate(up[5m] offset 1h)", [SelectorText("up", 5, 300_000, past=True)]),
        ("up[90] @ start()", [SelectorText("up", 0, 90_000, past=True)]),
        ("max_over_time(up[1h:5m])", [SelectorText("up", 14)]),
        ("sum by (a, b) (up) / on (c) group_left (d) {e='f'}", [SelectorText("up", 15), SelectorText("{e='f'}", 43)]),
        ("sum(up) by (le)", [SelectorText("up", 4)]),
        ("absent(up)", [SelectorText("up", 7, absent=True)]),
        ("a unless b", [SelectorText("a", 0), SelectorText("b", 9, excepted=True)]),
        ("a or b", [SelectorText("a", 0, choices=((0, 0),)), SelectorText("b", 5, choices=((0, 1),))]),
        ("(a) or vector(0)", [SelectorText("a", 1, choices=((0, 0),))]),
        ("sum(a or b) + c", [
            SelectorText("a", 4, choices=((1, 0),)),
            SelectorText("b", 9, choices=((1, 1),)),
            SelectorText("c", 14),
        ]),
        ('sum(a{b=")"}) unless c', [SelectorText('a{b=")"}', 4), SelectorText("c", 21, excepted=True)]),
        ("topk(3, up) @ end() > bool 1e3 + Inf", [SelectorText("up", 8)]),
    ],
)  # fmt: skip
def test_each_is_found_with_what_is_around_it(query: str, expected: list[SelectorText]) -> None:
    assert selector_texts(query) == expected


def test_those_of_the_shipped_rules_are_all_found() -> None:
    rules = [rule for group in load_rules([default_rules_path()]).groups for rule in group.rules]
    assert all(len(selector_texts(rule.expr)) == len(rule.plan.selectors) for rule in rules)
    assert sum(len(rule.plan.selectors) for rule in rules) > 100
