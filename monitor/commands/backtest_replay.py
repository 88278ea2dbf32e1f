"""Evaluates rules over the past, with the daemon's own engine, and keeps what would have fired.

Every evaluation is as it would have been then: the time is passed in, and samples after it are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.commands.backtest_feeds import SharedFeed
from monitor.rules.engine import Engine
from monitor.rules.reach import RuleNeeds, can_give
from monitor.rules.rule_file import Rule, RuleSet
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels
from monitor.selector import Matcher
from monitor.store.sliding import Feed, Sliding

HOUR_MS = 3_600_000
_MARGIN_MS = 330_000
"""So much is loaded beyond an evaluation, so that it is known whether it falls into a gap."""
_LEAST_STRETCH_MS = 900_000
_MANY_SAMPLES = 3_000_000


@dataclass(slots=True)
class Episode:
    """An alert was pending, or firing, once. Times are epoch milliseconds."""

    group: str
    rule: str
    labels: Labels
    annotations: Mapping[str, str]
    pending_ms: int
    """Since when its expression held."""
    fired_ms: int | None = None
    """None for one that was only pending."""
    ended_ms: int | None = None
    """None where it goes on at the end of the range."""
    value: float = 0.0
    """When it fired, or was first pending."""
    low: float = 0.0
    high: float = 0.0
    """The least and the greatest value while it lasted."""

    def firing_ms(self, start_ms: int, end_ms: int) -> int:
        """For how long it fired inside of a range."""
        if self.fired_ms is None:
            return 0
        until_ms = end_ms if self.ended_ms is None else min(self.ended_ms, end_ms)
        return max(0, until_ms - max(self.fired_ms, start_ms))


@dataclass(slots=True)
class RuleResult:
    """What became of one rule."""

    group: str
    rule: Rule
    episodes: list[Episode] = field(default_factory=list)
    """In the order of time; those of the range alone."""
    errors: int = 0
    """Evaluations that failed."""
    error: str = ""
    """What the first of them said."""
    error_ms: int = 0
    absent: tuple[tuple[Matcher, ...], ...] = ()
    """Selectors that never selected a series."""
    could_fire: bool = True
    """Whether its expression could have given anything, from the series that there were."""

    @property
    def fired(self) -> list[Episode]:
        """The firings."""
        return [one for one in self.episodes if one.fired_ms is not None]

    @property
    def pending_only(self) -> list[Episode]:
        """How often it was pending, and ended before it fired."""
        return [one for one in self.episodes if one.fired_ms is None]


@dataclass(slots=True)
class Outcome:
    """What a set of rules would have done."""

    results: list[RuleResult]
    """Every rule, in the order of the files; recording rules too."""
    evaluations: int
    """Moments at which rules were evaluated."""
    series: int
    samples: int

    @property
    def alerting(self) -> list[RuleResult]:
        """The alerting rules."""
        return [one for one in self.results if not one.rule.records]

    @property
    def firings(self) -> list[Episode]:
        """Every firing, in the order of time."""
        return sorted((one for result in self.alerting for one in result.fired), key=_beginning)

    @property
    def errors(self) -> int:
        """Evaluations that failed, of all rules."""
        return sum(one.errors for one in self.results)


def _beginning(one: Episode) -> tuple[int, str, Labels]:
    return one.fired_ms or one.pending_ms, one.rule, one.labels


@dataclass(slots=True)
class Past:
    """What was found of the stored past in the range."""

    start_ms: int
    end_ms: int
    oldest_ms: int | None = None
    newest_ms: int | None = None
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """When nothing was stored, and so nothing was evaluated: first evaluation left out, and the next that was not."""


class Replay:
    """One set of rules on its way through the past."""

    def __init__(self, rules: RuleSet, feed: Feed, start_ms: int, end_ms: int, interval_ms: int) -> None:
        self._needs = RuleNeeds(rules)
        self._start_ms = start_ms
        self._engine = Engine(
            rules, default_interval_ms=interval_ms, resolved_retention_ms=0, restore_hold_ms=60_000, timer=lambda: 0.0
        )
        wanted = self._needs.wanted(end_ms)
        self.store = Sliding(feed, wanted, self._needs.makes, filter(self._needs.makes_all, wanted))
        self._rules = rules
        self._open: dict[str, tuple[Episode, list[Episode]]] = {}
        """By the alert's key, with the list that it goes to when it has ended."""
        self._episodes: list[list[list[Episode]]] = [[[] for _ in group.rules] for group in rules.groups]
        """By group and rule, in the order of the files."""
        self._errors: dict[tuple[int, int], tuple[int, str, int]] = {}
        self._failures = 0
        self._evaluations = 0
        self._last_ms: int | None = None

    @property
    def warm_up_ms(self) -> int:
        """How long before the range evaluation begins, so that it is as if the rules always had been there."""
        return self._needs.warm_up_ms

    @property
    def due_ms(self) -> int:
        """When the next evaluation is."""
        return self._engine.next_due_ms

    def step(self, now_ms: int, *, after_gap: bool) -> None:
        """Evaluate what is due."""
        if after_gap and self._last_ms is not None:
            # As a daemon does that was away: that time counts towards no `for`.
            self._engine.restore(self._engine.saved(), now_ms, self._last_ms)
        self.store.move(now_ms)
        transitions = self._engine.step(now_ms, self.store)
        self._last_ms = now_ms
        self._evaluations += now_ms >= self._start_ms
        for one in transitions:
            self._take(one)
        if self._open:
            for alert in self._engine.alerts():
                known = self._open.get(alert.key)
                if known is not None:
                    _see(known[0], alert.value)
        if self._engine.failures != self._failures:
            self._failures = self._engine.failures
            self._note_errors(now_ms)

    def _take(self, one: Transition) -> None:
        alert = one.alert
        if one.after == "inactive":
            known = self._open.pop(alert.key, None)
            if known is not None:
                known[0].ended_ms = one.at_ms
                self._close(*known)
            return
        known = self._open.get(alert.key)
        if known is None:
            known = self._open[alert.key] = _begun(alert), self._home(alert)
        if one.after == "firing":
            episode = known[0]
            episode.fired_ms, episode.value, episode.annotations = one.at_ms, alert.value, alert.annotations

    def _home(self, alert: Alert) -> list[Episode]:
        """Where the episodes of its rule go. Rules may share their name: their alerts do not share their key."""
        for i, group in enumerate(self._engine.groups_status()):
            for j, rule in enumerate(group.rules):
                if rule.rule.name == alert.rule and any(each.key == alert.key for each in rule.alerts):
                    return self._episodes[i][j]
        return []  # over its rule's limit, it was gone before anybody saw it

    def _close(self, episode: Episode, home: list[Episode]) -> None:
        if episode.ended_ms is None or episode.ended_ms > self._start_ms:
            home.append(episode)

    def _note_errors(self, now_ms: int) -> None:
        if now_ms < self._start_ms:
            return
        for i, group in enumerate(self._engine.groups_status()):
            if group.last_evaluation_ms != now_ms:
                continue
            for j, rule in enumerate(group.rules):
                if rule.health == "err":
                    count, said, at_ms = self._errors.get((i, j), (0, rule.last_error, now_ms))
                    self._errors[i, j] = count + 1, said, at_ms

    def outcome(self) -> Outcome:
        """What would have fired, now that all is evaluated."""
        for known in self._open.values():
            self._close(*known)
        self._open.clear()
        results = []
        matched = self.store.matched
        for i, group in enumerate(self._rules.groups):
            for j, rule in enumerate(group.rules):
                episodes = sorted(self._episodes[i][j], key=_beginning)
                count, said, at_ms = self._errors.get((i, j), (0, "", 0))
                absent = tuple(dict.fromkeys(one for one in rule.plan.selectors if one not in matched))
                could = can_give(rule.plan.expr, matched.__contains__)
                results.append(RuleResult(group.name, rule, episodes, count, said, at_ms, absent, could))
        return Outcome(results, self._evaluations, self.store.series_seen, self.store.samples)


def _begun(alert: Alert) -> Episode:
    value = alert.value
    return Episode(
        alert.group,
        alert.rule,
        alert.labels,
        alert.annotations,
        alert.active_at_ms,
        value=value,
        low=value,
        high=value,
    )


def _see(episode: Episode, value: float) -> None:
    # NaN is neither less nor greater than anything.
    if value < episode.low or episode.low != episode.low:
        episode.low = value
    if value > episode.high or episode.high != episode.high:
        episode.high = value


def replay_all(
    replays: Sequence[Replay],
    feed: SharedFeed,
    start_ms: int,
    end_ms: int,
    tick_ms: int,
    tell: Callable[[int], None] = lambda now_ms: None,
    oldest_ms: int | None = None,
) -> Past:
    """Take all of them through the past, side by side, from as far before ``start_ms`` as they need to warm up.
    ``tick_ms`` divides the intervals of all groups. ``tell`` is told now and then how far it is. Before
    ``oldest_ms``, where that is known, there is nothing, and nothing is asked for."""
    begin_ms = (start_ms - max(one.warm_up_ms for one in replays)) // 60_000 * 60_000
    past = Past(start_ms, end_ms)
    stretch_ms = _LEAST_STRETCH_MS
    loaded_ms = gap_ms = None
    now_ms = begin_ms
    if oldest_ms is not None and (ticks := (oldest_ms - _MARGIN_MS - begin_ms) // tick_ms) > 0:
        gap_ms, now_ms = begin_ms, begin_ms + ticks * tick_ms
    while now_ms <= end_ms:
        if loaded_ms is None or (loaded_ms < end_ms and now_ms > loaded_ms - _MARGIN_MS):
            before = sum(one.store.samples for one in replays)
            until_ms = min(end_ms, ((now_ms + _MARGIN_MS) // stretch_ms + 1) * stretch_ms)
            feed.begin(now_ms if loaded_ms is None else loaded_ms, until_ms, keep=len(replays) > 1)
            for one in replays:
                one.store.load(now_ms, until_ms)
            first, loaded_ms = loaded_ms is None, until_ms
            read = sum(one.store.samples for one in replays) - before
            stretch_ms = _next_stretch(stretch_ms, 0 if first else read)
            tell(now_ms)
        known_ms = end_ms if loaded_ms >= end_ms else loaded_ms - _MARGIN_MS
        if not feed.covered.at(now_ms, loaded_ms):
            gap_ms = now_ms if gap_ms is None else gap_ms
            resumed_ms = feed.covered.next_after(now_ms)
            aim_ms = known_ms + 1 if resumed_ms is None else min(resumed_ms, known_ms + 1)
            now_ms += max(1, -((now_ms - aim_ms) // tick_ms)) * tick_ms
            continue
        for one in replays:
            if one.due_ms <= now_ms:
                one.step(now_ms, after_gap=gap_ms is not None)
        if gap_ms is not None and now_ms > start_ms:
            past.gaps.append((max(gap_ms, start_ms), now_ms))
        gap_ms = None
        now_ms = max(min(one.due_ms for one in replays), now_ms + 1)
    if gap_ms is not None:
        past.gaps.append((max(gap_ms, start_ms), end_ms))
    past.oldest_ms, past.newest_ms = feed.covered.oldest_ms, feed.covered.newest_ms
    return past


def _next_stretch(stretch_ms: int, samples: int) -> int:
    """How long a stretch to load next, from how many samples the last had. A history file keeps chunks of an hour: a
    stretch that divides the hour reads each of them as seldom as can be."""
    if samples > _MANY_SAMPLES:
        return max(300_000, stretch_ms // (3 if stretch_ms == _LEAST_STRETCH_MS else 2))
    if samples < _MANY_SAMPLES // 4:
        return min(HOUR_MS, stretch_ms * (3 if stretch_ms == 300_000 else 2))
    return stretch_ms
