"""What two sets of rules would have told differently of the same past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from monitor.commands.backtest_replay import Episode, Outcome
from monitor.samples import Labels

Key: TypeAlias = tuple[str, Labels]


@dataclass(frozen=True, slots=True)
class Pair:
    """A firing that both have. Positive shifts are later in the new one."""

    new: Episode
    old: Episode
    begins_later_ms: int
    ends_later_ms: int
    """0 where both go on at the end of the range."""

    @property
    def same(self) -> bool:
        """Whether both began and ended at the same evaluation."""
        return not self.begins_later_ms and not self.ends_later_ms


@dataclass(slots=True)
class Difference:
    """The firings of both, held against each other."""

    only_new: list[Episode] = field(default_factory=list)
    only_old: list[Episode] = field(default_factory=list)
    moved: list[Pair] = field(default_factory=list)
    """Those that begin or end at other times."""
    same: list[Pair] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.only_new or self.only_old or self.moved)


def compare(new: Outcome, old: Outcome, end_ms: int) -> Difference:
    """Pair the firings of the same alert that overlap in time, each with one at most."""
    out = Difference()
    ours, theirs = _by_alert(new, old)
    for key in sorted(ours.keys() | theirs.keys()):
        _pair(ours.get(key, []), theirs.get(key, []), end_ms, out)
    out.only_new.sort(key=_fired)
    out.only_old.sort(key=_fired)
    out.moved.sort(key=lambda pair: _fired(pair.new))
    return out


def _by_alert(new: Outcome, old: Outcome) -> tuple[dict[Key, list[Episode]], dict[Key, list[Episode]]]:
    """The firings by alert. An alert is the same by its name and labels, or else, where that leaves no doubt, by those
    of its labels that come from the data: a rule whose severity was changed is the same rule."""
    ours, theirs = _exactly(new), _exactly(old)
    given = _given(new) | _given(old)
    mine, yours = _loosely(ours.keys() - theirs.keys(), given), _loosely(theirs.keys() - ours.keys(), given)
    for loose in mine.keys() & yours.keys():
        if len(mine[loose]) == len(yours[loose]) == 1:
            theirs[mine[loose][0]] = theirs.pop(yours[loose][0])
    return ours, theirs


def _exactly(outcome: Outcome) -> dict[Key, list[Episode]]:
    found: dict[Key, list[Episode]] = defaultdict(list)
    for one in outcome.firings:
        found[one.rule, one.labels].append(one)
    return dict(found)


def _given(outcome: Outcome) -> set[tuple[str, str]]:
    """Alerts' names with the labels that their rules set."""
    return {(one.rule.name, name) for one in outcome.alerting for name in one.rule.labels}


def _loosely(keys: Iterable[Key], given: set[tuple[str, str]]) -> Mapping[Key, list[Key]]:
    found: dict[Key, list[Key]] = defaultdict(list)
    for rule, labels in sorted(keys):
        found[rule, tuple(pair for pair in labels if (rule, pair[0]) not in given)].append((rule, labels))
    return found


def _pair(ours: Sequence[Episode], theirs: Sequence[Episode], end_ms: int, out: Difference) -> None:
    """Both are in the order of time, and those of one side do not overlap."""
    i = j = 0
    while i < len(ours) and j < len(theirs):
        new, old = ours[i], theirs[j]
        if _end(new, end_ms) <= _fired(old):
            out.only_new.append(new)
            i += 1
        elif _end(old, end_ms) <= _fired(new):
            out.only_old.append(old)
            j += 1
        else:
            pair = Pair(new, old, _fired(new) - _fired(old), _end(new, end_ms) - _end(old, end_ms))
            (out.same if pair.same else out.moved).append(pair)
            i, j = i + 1, j + 1
    out.only_new += ours[i:]
    out.only_old += theirs[j:]


def _fired(one: Episode) -> int:
    return one.fired_ms or 0


def _end(one: Episode, end_ms: int) -> int:
    return end_ms if one.ended_ms is None else one.ended_ms
