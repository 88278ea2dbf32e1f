"""What rules need of a store: the series that they select, how far back they look, and which rules feed which.

For whoever evaluates rules over a past: that much has to be at hand before the first evaluation that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from monitor.promql.plan import LOOKBACK_MS
from monitor.promql.tree import Aggregate, Binary, Call, Expr, Negation, Paren, Range, Selector, Subquery, When, type_of
from monitor.rules.rule_file import Rule, RuleSet
from monitor.samples import NAME, Labels, label
from monitor.selector import Matcher

Matchers: TypeAlias = tuple[Matcher, ...]

ALERTS = ("ALERTS", "ALERTS_FOR_STATE")


class Need(msgspec.Struct, frozen=True):
    """One selector of a rule: it looks at most ``reach_ms`` back from an evaluation, or back to ``from_ms`` where an
    ``@`` binds it to a time."""

    matchers: Matchers
    reach_ms: int
    from_ms: int | None = None


def needs(expr: Expr, beyond_ms: int = 0) -> Iterator[Need]:
    """The selectors of an expression, in the order of its text. ``beyond_ms`` is how far back it is itself
    evaluated."""
    match expr:
        case Selector(matchers, when):
            yield _need(matchers, when, LOOKBACK_MS, beyond_ms)
        case Range(Selector(matchers, when), range_ms):
            yield _need(matchers, when, range_ms, beyond_ms)
        case Subquery(inner, range_ms, _, When(offset_ms, at)):
            reach_ms = range_ms + max(0, offset_ms)
            if isinstance(at, int):
                for need in needs(inner, 0):
                    start_ms = at - reach_ms - need.reach_ms
                    yield Need(need.matchers, need.reach_ms, min(start_ms, need.from_ms or start_ms))
            else:
                yield from needs(inner, reach_ms + (beyond_ms if at is None else 0))
        case Paren(inner) | Negation(inner):
            yield from needs(inner, beyond_ms)
        case Aggregate(inner=inner, parameter=parameter):
            if parameter is not None:
                yield from needs(parameter, beyond_ms)
            yield from needs(inner, beyond_ms)
        case Binary(left=left, right=right):
            yield from needs(left, beyond_ms)
            yield from needs(right, beyond_ms)
        case Call(arguments=arguments):
            for argument in arguments:
                yield from needs(argument, beyond_ms)


def _need(matchers: Matchers, when: When, range_ms: int, beyond_ms: int) -> Need:
    reach_ms = range_ms + max(0, when.offset_ms)
    if isinstance(when.at, int):
        return Need(matchers, reach_ms, when.at - reach_ms)
    return Need(matchers, reach_ms + (beyond_ms if when.at is None else 0))


def can_give(expr: Expr, is_there: Callable[[Matchers], bool]) -> bool:
    """Whether an expression can give anything at all, where only some of its selectors select any series."""

    def can(one: Expr) -> bool:
        return can_give(one, is_there)

    match expr:
        case _ if type_of(expr) in ("scalar", "string"):
            return True
        case Selector(matchers) | Range(Selector(matchers)):
            return is_there(matchers)
        case Paren(inner) | Negation(inner) | Aggregate(inner=inner) | Subquery(inner=inner):
            return can(inner)
        case Binary("or", left, right):
            return can(left) or can(right)
        case Binary("unless", left, _):
            return can(left)
        case Binary(_, left, right):
            return can(left) and can(right)
        case Call(name, arguments):
            return name in ("absent", "absent_over_time") or all(map(can, arguments))
    return True


class RuleNeeds:
    """What a set of rules needs and makes."""

    def __init__(self, rules: RuleSet) -> None:
        self.of: dict[int, tuple[Need, ...]] = {}
        """The selectors of each rule, by the rule's ``id()``."""
        self.recorded = frozenset(rule.name for group in rules.groups for rule in group.rules if rule.records)
        self.alerts = frozenset(rule.name for group in rules.groups for rule in group.rules if not rule.records)
        self._rules = rules
        for group in rules.groups:
            for rule in group.rules:
                # The samples of a group with an offset are looked at that much later.
                self.of[id(rule)] = tuple(needs(rule.plan.expr, max(0, group.query_offset_ms)))

    def makes(self, labels: Labels) -> bool:
        """Whether the rules make this series themselves: a stored one of theirs is of other rules, or of this one as it
        was."""
        name = label(labels, NAME)
        return name in self.recorded or (name in ALERTS and label(labels, "alertname") in self.alerts)

    def makes_all(self, matchers: Matchers) -> bool:
        """Whether all that a selector can select is made by the rules."""
        return any(one.name == NAME and one.op == "=" and one.value in self.recorded for one in matchers)

    def wanted(self, until_ms: int) -> Mapping[Matchers, int]:
        """Every selector with how far back it looks, in milliseconds, from an evaluation at ``until_ms`` or before."""
        wanted: dict[Matchers, int] = {}
        for found in self.of.values():
            for need in found:
                reach_ms = need.reach_ms if need.from_ms is None else max(need.reach_ms, until_ms - need.from_ms)
                wanted[need.matchers] = max(wanted.get(need.matchers, 0), reach_ms)
        return wanted

    @property
    def warm_up_ms(self) -> int:
        """How long rules have to be evaluated until all is as if they always had been: alerts that were pending or
        kept firing before, and series that rules record for others."""
        known: dict[str, int] = {}
        longest = 0
        for group in self._rules.groups:
            for rule in group.rules:
                longest = max(longest, rule.for_ms + rule.keep_firing_for_ms + self._before(rule, known))
        return longest

    def _before(self, rule: Rule, known: dict[str, int]) -> int:
        """For how long what the rules make has to be there before a rule is evaluated."""
        longest = 0
        for need in self.of[id(rule)]:
            names = [one for one in need.matchers if one.name == NAME]
            fed = [name for name in self.recorded if all(one.matches(name) for one in names)]
            if any(all(one.matches(name) for one in names) for name in ALERTS):
                longest = max(longest, need.reach_ms)
            for name in fed:
                if name not in known:
                    known[name] = 0  # a rule that feeds itself ends here
                    known[name] = max(self._before(each, known) for each in self._recording(name))
                longest = max(longest, need.reach_ms + known[name])
        return longest

    def _recording(self, name: str) -> list[Rule]:
        return [rule for group in self._rules.groups for rule in group.rules if rule.records and rule.name == name]
