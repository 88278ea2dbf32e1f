"""What ``gpumon backtest`` prints for people, with a line of time for each alert."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import click

from monitor.client import format as words
from monitor.commands.backtest_difference import Difference, Pair
from monitor.commands.backtest_replay import Episode, Outcome, Past, RuleResult
from monitor.rules.reach import ALERTS
from monitor.samples import NAME, Labels, label
from monitor.selector import Matcher

DAY_MS = 86_400_000
_COLORS = {"critical": "red", "warning": "yellow"}
_PLAIN = ("alertname", "severity", "job")
_FIRST = ("gpu", "server", "engine", "source", "mountpoint")
_NODE = ("instance", "Hostname")
_WIDE = 100
_MOST_OF_SELECTOR = 70
_UNKNOWN, _QUIET, _PENDING, _FIRING = " ", "·", "░", "█"
_MOST_LISTED = 10
_SHORT_MS = 60_000


@dataclass(frozen=True, slots=True)
class Report:
    """All that is to be told."""

    files: tuple[str, ...]
    place: str
    """Where the past came from."""
    intervals: tuple[str, ...]
    """At which rules were evaluated, as Prometheus writes them."""
    past: Past
    outcome: Outcome
    old_files: tuple[str, ...] = ()
    old: Outcome | None = None
    difference: Difference | None = None


def render(report: Report, width: int, *, everything: bool = False) -> str:
    """Lines of at most ``width`` cells, with colours. Without ``everything``, a few firings of each alert."""
    teller = _Teller(report, width, everything)
    return "\n".join(line.rstrip() for line in teller.lines()) + "\n"


class _Teller:
    def __init__(self, report: Report, width: int, everything: bool) -> None:
        self._report = report
        self._past = report.past
        self._width = width
        self._everything = everything
        self._places = _Places(report)
        self._dated = (
            report.past.end_ms - report.past.start_ms > DAY_MS
            or words.clock(report.past.start_ms, date=True).split()[0]
            != (words.clock(report.past.end_ms, date=True).split()[0])
        )

    def lines(self) -> Iterator[str]:
        outcome = self._report.outcome
        yield from self.head()
        yield ""
        yield from self.verdict(outcome)
        shown = sorted((one for one in outcome.alerting if one.episodes), key=_gravest)
        if shown:
            yield ""
            yield from self.table(shown)
        if any(one.fired for one in shown):
            yield ""
            yield from self.firings(shown)
        yield from self.silent(outcome)
        yield from self.errors(outcome, "")
        if self._report.old is not None and self._report.difference is not None:
            yield from self.errors(self._report.old, " of the old rules")
            yield ""
            yield from self.difference(self._report.difference)

    def wrapped(self, text: str, indent: str = "") -> list[str]:
        return textwrap.wrap(text, self._width, subsequent_indent=indent, break_on_hyphens=False) or [""]

    def when(self, at_ms: int) -> str:
        return words.clock(at_ms, date=True)[5:] if self._dated else words.clock(at_ms)

    # -- the whole ---------------------------------------------------------------------------------------------------

    def head(self) -> Iterator[str]:
        report, past = self._report, self._past
        rules = words.count(len(report.outcome.results), "rule")
        span = words.duration((past.end_ms - past.start_ms) / 1000)
        times = f"{words.clock(past.start_ms, date=True)} to {words.clock(past.end_ms, date=True)}"
        yield from self.wrapped(f"{', '.join(map(words.clean, report.files))}: {rules} over {span}, {times}")
        outcome = report.outcome
        yield from self.wrapped(
            f"{words.clean(report.place)}: {outcome.series:,} series, {outcome.samples:,} samples; "
            f"{outcome.evaluations:,} evaluations, every {' and '.join(report.intervals)}"
        )
        for start_ms, end_ms in (gap for gap in past.gaps if gap[1] - gap[0] >= _SHORT_MS):
            lasts = words.duration((end_ms - start_ms) / 1000)
            yield from self.wrapped(
                f"nothing is stored from {self.when(start_ms)} to {self.when(end_ms)} ({lasts}): not evaluated there"
            )

    def verdict(self, outcome: Outcome) -> Iterator[str]:
        counted = [one for one in outcome.alerting if one.fired and not _is_machines(one)]
        machines = [one for one in outcome.alerting if one.fired and _is_machines(one)]
        firings = sum(len(one.fired) for one in counted)
        besides = f" ({len(machines)} of severity none did)" if machines else ""
        if not outcome.alerting:
            yield "there is no alerting rule"
        elif not counted:
            yield f"no alert would have fired{besides}"
        else:
            times = {1: "once", 2: "twice"}.get(firings, f"{firings:,} times")
            of = words.count(len(outcome.alerting), "alerting rule")
            besides = besides.replace("did)", "fired, too)")
            yield from self.wrapped(f"{len(counted)} of {of} would have fired, {times} in all{besides}")

    # -- by rule -----------------------------------------------------------------------------------------------------

    def table(self, results: Sequence[RuleResult]) -> Iterator[str]:
        past = self._past
        rows = [["ALERT", "FIRED", "IN ALL", "LONGEST", "PENDING"]]
        for one in results:
            lengths = [each.firing_ms(past.start_ms, past.end_ms) for each in one.fired]
            rows.append(
                [
                    words.clean(one.rule.name),
                    f"{len(lengths)}" if lengths else words.ABSENT,
                    words.duration(sum(lengths) / 1000) if lengths else words.ABSENT,
                    words.duration(max(lengths) / 1000) if lengths else words.ABSENT,
                    f"{len(one.pending_only)}" if one.pending_only else words.ABSENT,
                ]
            )
        widths = [max(words.cells(row[column]) for row in rows) for column in range(5)]
        widths[0] = min(widths[0], max(12, self._width - 22 - sum(widths[1:]) - 2 * len(widths)))
        bar = max(10, self._width - sum(widths) - 2 * len(widths))
        for number, row in enumerate(rows):
            cells = [words.fit(cell, size, right=i > 0) for i, (cell, size) in enumerate(zip(row, widths, strict=True))]
            if number == 0:
                yield "  ".join([*cells, self.scale(bar)])
                continue
            color = _COLORS.get(_severity(results[number - 1]))
            cells[0] = click.style(cells[0], fg=color) if color and results[number - 1].fired else cells[0]
            yield "  ".join([*cells, self.bar(results[number - 1].episodes, bar)])

    def scale(self, width: int) -> str:
        """The range's ends above the lines of time."""
        form = slice(5, 16) if self._dated else slice(11, 16)
        first, last = (words.clock(at, date=True)[form] for at in (self._past.start_ms, self._past.end_ms))
        if len(first) + len(last) + 1 > width:
            first, last = first[-5:], last[-5:]
        return first + " " * (width - len(first) - len(last)) + last

    def bar(self, episodes: Iterable[Episode], width: int) -> str:
        """A line of time: each cell shows the gravest of its share of the range."""
        start, end = self._past.start_ms, self._past.end_ms
        cells = [_QUIET] * width
        for since_ms, until_ms in self._past.gaps:
            first = -((start - since_ms) * width // (end - start))  # whole cells only
            last = (until_ms - start) * width // (end - start)
            cells[first:last] = _UNKNOWN * max(0, last - first)
        for mark, since_ms, until_ms in sorted(_stretches(episodes, end), key=lambda one: one[0] == _FIRING):
            first = max(0, (max(since_ms, start) - start) * width // (end - start))
            last = min(width - 1, (max(since_ms, until_ms - 1) - start) * width // (end - start))
            cells[first : last + 1] = mark * max(0, last + 1 - first)
        return "".join(cells)

    # -- firing by firing --------------------------------------------------------------------------------------------

    def firings(self, results: Sequence[RuleResult]) -> Iterator[str]:
        rows = [["FIRED AT", "FOR", "ALERT", "VALUE", "LABELS"]]
        grave = [""]
        left_out = []
        listed = []
        for one in results:
            if _is_machines(one) and not self._everything:
                continue
            some = one.fired if self._everything else one.fired[:_MOST_LISTED]
            listed += [(each, one) for each in some]
            if len(some) < len(one.fired):
                left_out.append(f"{len(one.fired) - len(some)} more of {words.clean(one.rule.name)}")
        for each, one in sorted(listed, key=lambda pair: (pair[0].fired_ms or 0, pair[0].rule, pair[0].labels)):
            rows.append([*self.firing(each), self._places.said(each)])
            grave.append(_severity(one))
        if not listed:
            return
        widths = [max(words.cells(row[column]) for row in rows) for column in range(4)]
        for row, severity in zip(rows, grave, strict=True):
            cells = [words.fit(cell, size) for cell, size in zip(row, widths, strict=False)]
            line = words.cut("  ".join([*cells, row[4]]).rstrip(), self._width)
            before = sum(widths[:2]) + 4
            name = line[before : before + widths[2]]
            color = _COLORS.get(severity)
            yield line[:before] + click.style(name, fg=color) + line[before + widths[2] :] if color else line
        if left_out:
            yield from self.wrapped(f"and {', '.join(left_out)} (--all lists them)")

    def firing(self, one: Episode) -> list[str]:
        """When, for how long, which alert, with what values."""
        start, end = self._past.start_ms, self._past.end_ms
        fired_ms = one.fired_ms or 0
        open_ended = fired_ms < start or one.ended_ms is None or one.ended_ms > end
        lasts = words.duration(one.firing_ms(start, end) / 1000)
        value, low, high = (f"{each:.4g}" for each in (one.value, one.low, one.high))
        span = f" ({low} to {high})" if low != high and self._width >= _WIDE else ""
        began = "before" if fired_ms < start else self.when(fired_ms)
        return [began, f"≥ {lasts}" if open_ended else lasts, words.clean(one.rule), value + span]

    # -- what did not ------------------------------------------------------------------------------------------------

    def silent(self, outcome: Outcome) -> Iterator[str]:
        quiet = [one for one in outcome.alerting if not one.episodes]
        blind = [one for one in quiet if not one.could_fire]
        if blind:
            yield ""
            yield from self.wrapped(f"{words.count(len(blind), 'rule')} could not have fired, for want of series:")
            said = [f"  {words.clean(one.rule.name)}: no series {', '.join(_absent(one))}" for one in blind]
            for line in dict.fromkeys(said):
                yield from self.wrapped(line, "      ")
        rest = [words.clean(one.rule.name) for one in quiet if one.could_fire]
        if rest:
            yield ""
            yield from self.wrapped(f"never pending: {', '.join(dict.fromkeys(rest))}", "  ")

    def errors(self, outcome: Outcome, whose: str) -> Iterator[str]:
        failed = [one for one in outcome.results if one.errors]
        if not failed:
            return
        yield ""
        yield f"{words.count(len(failed), 'rule')}{whose} could not be evaluated always:"
        for one in failed:
            place = f"{words.clean(one.rule.path)}:{one.rule.line}: {words.clean(one.rule.name)}"
            times = words.count(one.errors, "failed evaluation")
            yield from self.wrapped(
                f"  {place}: {times}, the first at {self.when(one.error_ms)}: {words.clean(one.error)}", "      "
            )

    # -- against the old ---------------------------------------------------------------------------------------------

    def difference(self, difference: Difference) -> Iterator[str]:
        named = ", ".join(map(words.clean, self._report.old_files))
        same = len(difference.same)
        if not difference:
            yield from self.wrapped(
                f"no difference to {named}: both fire {words.count(same, 'time')}, at the same times"
                if same
                else f"no difference to {named}: neither would have fired"
            )
            return
        yield from self.wrapped(f"difference to {named} ({words.count(same, 'firing')} the same):")
        for title, some in (("only the new", difference.only_new), ("only the old", difference.only_old)):
            if some:
                yield f"  {title} ({words.count(len(some), 'firing')}):"
                for one in some if self._everything else some[: 2 * _MOST_LISTED]:
                    said = self._places.said(one)
                    text = "    " + "  ".join([*self.firing(one), said])
                    yield words.cut(text, self._width)
                yield from self.more(len(some))
        if difference.moved:
            yield f"  at other times ({words.count(len(difference.moved), 'firing')}):"
            for pair in difference.moved if self._everything else difference.moved[: 2 * _MOST_LISTED]:
                name, began = pair.new.rule, self.firing(pair.new)[0]
                said = self._places.said(pair.new)
                text = "    " + "  ".join([began, words.clean(name), _shift(pair), said])
                yield words.cut(text, self._width)
            yield from self.more(len(difference.moved))

    def more(self, count: int) -> list[str]:
        left = count - 2 * _MOST_LISTED
        return [] if self._everything or left <= 0 else [f"    and {left} more (--all lists them)"]


def _stretches(episodes: Iterable[Episode], end_ms: int) -> Iterator[tuple[str, int, int]]:
    for one in episodes:
        ended_ms = end_ms if one.ended_ms is None else one.ended_ms
        if one.fired_ms is None or one.pending_ms < one.fired_ms:
            yield _PENDING, one.pending_ms, ended_ms if one.fired_ms is None else one.fired_ms
        if one.fired_ms is not None:
            yield _FIRING, one.fired_ms, ended_ms


def _shift(pair: Pair) -> str:
    said = []
    for verb, ms in (("begins", pair.begins_later_ms), ("ends", pair.ends_later_ms)):
        if ms:
            said.append(f"{verb} {words.duration(abs(ms) / 1000)} {'later' if ms > 0 else 'earlier'}")
    return ", ".join(said)


def _severity(one: RuleResult) -> str:
    """As far as the rule itself says it."""
    template = one.rule.labels.get("severity")
    return template.text if template is not None else ""


def _is_machines(one: RuleResult) -> bool:
    return _severity(one) == "none"


def _gravest(one: RuleResult) -> tuple[bool, int, bool, int, str]:
    severities = {"critical": 0, "warning": 1, "none": 9}
    severity = severities.get(_severity(one), 2)
    return severity == 9, severity, not one.fired, one.episodes[0].pending_ms, one.rule.name


class _Places:
    """Which labels tell one alert of a rule from another, what people look for first. All of them are in the JSON."""

    def __init__(self, report: Report) -> None:
        outcomes = [each for each in (report.outcome, report.old) if each is not None]
        firings = [one for each in outcomes for one in each.firings]
        one_node = [name for name in _NODE if len({label(one.labels, name) for one in firings} - {""}) == 1]
        self._left_out: dict[str, set[str]] = {}
        for each in outcomes:
            for result in each.alerting:
                self._left_out.setdefault(result.rule.name, {*_PLAIN, *one_node}).update(result.rule.labels)
        alerts: dict[str, set[Labels]] = {}
        for one in firings:
            alerts.setdefault(one.rule, set()).add(self._kept(one))
        self._short = {rule for rule, some in alerts.items() if len({_first(each) for each in some}) == len(some)}

    def _kept(self, one: Episode) -> Labels:
        return tuple(pair for pair in one.labels if pair[0] not in self._left_out[one.rule])

    def said(self, one: Episode) -> str:
        """``gpu=3, server=node:8000``: these alone where they leave no doubt."""
        kept = self._kept(one)
        first = _first(kept)
        rest = () if first and one.rule in self._short else tuple(pair for pair in kept if pair not in first)
        return ", ".join(f"{name}={words.clean(value)}" for name, value in (*first, *rest))


def _first(labels: Labels) -> Labels:
    return tuple((name, value) for name in _FIRST if (value := label(labels, name)))


def _absent(one: RuleResult) -> list[str]:
    """The selectors that selected nothing; what tells of other alerts is absent while those do not fire."""
    every = [said_selector(matchers) for matchers in one.absent if not _is_of_alerts(matchers)]
    return [words.cut(text, _MOST_OF_SELECTOR).rstrip() for text in every]


def _is_of_alerts(matchers: Sequence[Matcher]) -> bool:
    return any(one.name == NAME and one.value in ALERTS for one in matchers)


def said_selector(matchers: Sequence[Matcher]) -> str:
    """A selector as people write it."""
    named = next((one.value for one in matchers if one.name == NAME and one.op == "="), "")
    rest = ", ".join(str(one) for one in matchers if not named or one.name != NAME)
    return words.clean(f"{named}{{{rest}}}" if rest or not named else named)
