"""The sections of ``gpumon.yaml`` in Alertmanager's words: ``route``, ``inhibit_rules`` and ``time_intervals``.

What Alertmanager refuses is refused here, with the same reasons. Two things are ours: ``receiver`` may be a list, and
the defaults of a group are those of one node, see ``monitor.notify.route``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.config_fields_routes import (
    INHIBIT_RULE,
    INTERVAL,
    MONTHS,
    NOT_OF_ROOT,
    ROUTE,
    TIME_INTERVAL,
    TIMES,
    WEEKDAYS,
)
from monitor.config_parts import one_or_more
from monitor.matchers import LabelMatcher, MatcherError, parse_matchers
from monitor.notify.inhibition import InhibitRule
from monitor.notify.mute_times import Range, TimeInterval
from monitor.notify.route import Route, asks, path_of
from monitor.records import replace
from monitor.yaml_reader import Node, suggestion

_OLD_FIELDS = {
    "match": "matchers",
    "match_re": "matchers",
    "source_match": "source_matchers",
    "source_match_re": "source_matchers",
    "target_match": "target_matchers",
    "target_match_re": "target_matchers",
}
_MAX_DEPTH = 10
_TIME = TIMES.pattern("start_time")


class RouteReader:
    """Reads the tree of routes, for the receivers and time intervals that there are."""

    def __init__(self, receivers: list[str], intervals: list[str]) -> None:
        self._receivers = receivers
        self._intervals = intervals

    def read(self, node: Node) -> Route | None:
        """``route:``."""
        return self._route(node, None, "0")

    def _route(self, node: Node, parent: Route | None, ident: str) -> Route | None:
        if ident.count("/") >= _MAX_DEPTH:
            node.problem(f"routes stand at most {_MAX_DEPTH} deep")
            return None
        fields = _fields(node, ROUTE.names)
        if parent is None:
            for name, why in NOT_OF_ROOT.items():
                if name in fields and _says_something(fields[name]):
                    fields[name].problem(f'the first route has no "{name}": {why}')
        receivers = self._names(fields["receiver"], self._receivers, "receiver") if "receiver" in fields else ()
        if not receivers and parent is None:
            if "receiver" not in fields:
                node.problem('a route needs a "receiver"')
            elif not one_or_more(fields["receiver"]):
                fields["receiver"].problem('the first route needs a "receiver": who is told where no other route says')
        matchers = read_matchers(fields["matchers"]) if "matchers" in fields else ()
        asks_for_severity, asks_for_silent = asks(matchers)
        above = parent or Route(ident, receivers)  # the defaults
        route = Route(
            ident,
            receivers or above.receivers,
            matchers,
            "continue" in fields and fields["continue"].boolean() is True,
            _group_by(fields["group_by"]) if "group_by" in fields else above.group_by,
            _duration(fields, "group_wait", above.group_wait_ms),
            _duration(fields, "group_interval", above.group_interval_ms),
            _duration(fields, "repeat_interval", above.repeat_interval_ms),
            self._named_intervals(fields, "mute_time_intervals"),
            self._named_intervals(fields, "active_time_intervals"),
            above.asks_for_severity or asks_for_severity,
            above.asks_for_silent or asks_for_silent,
            (),
            above.path if parent is None else path_of(above.path, matchers),
        )
        children: list[Route] = []
        for item in fields["routes"].items() if "routes" in fields else ():
            child = self._route(item, route, f"{ident}/{len(children)}")
            if child is not None:
                children.append(child)
        return replace(route, routes=tuple(children))

    def _named_intervals(self, fields: dict[str, Node], field: str) -> tuple[str, ...]:
        return self._names(fields[field], self._intervals, "time interval") if field in fields else ()

    def _names(self, node: Node, known: list[str], what: str) -> tuple[str, ...]:
        names: list[str] = []
        for item in one_or_more(node):
            name = item.text()
            if name is None:
                continue
            if name not in known:
                item.problem(f'there is no {what} "{name}"{suggestion(name, known)}')
            elif name in names:
                item.problem(f'the {what} "{name}" stands here a second time')
            names.append(name)
        return tuple(names)


def read_matchers(node: Node) -> tuple[LabelMatcher, ...]:
    """A list of texts, each a matcher or several."""
    out: list[LabelMatcher] = []
    for item in one_or_more(node):
        if item.kind == "map":  # {a="b"} without quotes is a mapping to YAML
            item.problem("a matcher is a text: put it in single quotes, as in 'severity=\"critical\"'")
            continue
        text = item.text()
        try:
            out += parse_matchers(text) if text is not None else ()
        except MatcherError as error:
            item.problem(str(error))
    return tuple(out)


def read_inhibit_rules(node: Node) -> tuple[InhibitRule, ...]:
    """``inhibit_rules:``."""
    rules: list[InhibitRule] = []
    for item in node.items():
        fields = _fields(item, INHIBIT_RULE.names)
        if "name" in fields:
            fields["name"].text()
        sides: list[tuple[LabelMatcher, ...]] = []
        for side in ("source_matchers", "target_matchers"):
            before = len(item.problems.found)
            matchers = read_matchers(fields[side]) if side in fields else ()
            if not matchers and len(item.problems.found) == before:
                item.problem(f'an inhibit rule needs "{side}": without any, every alert would be meant')
            sides.append(matchers)
        labels = [text for child in one_or_more(fields["equal"]) if (text := child.text())] if "equal" in fields else []
        rules.append(InhibitRule(sides[0], sides[1], tuple(labels)))
    return tuple(rules)


def read_time_intervals(nodes: list[Node]) -> Mapping[str, tuple[TimeInterval, ...]]:
    """``time_intervals:``, and ``mute_time_intervals:``, the older name of the same."""
    found: dict[str, tuple[TimeInterval, ...]] = {}
    for item in (item for node in nodes for item in node.items()):
        fields = item.fields(TIME_INTERVAL.names)
        name = fields["name"].text() if "name" in fields else None
        if not name:
            item.problem('a time interval needs a "name"')
            continue
        if name in found:
            fields["name"].problem(f'a second time interval called "{name}"')
        children = fields["time_intervals"].items() if "time_intervals" in fields else []
        if not children:
            item.problem('a time interval needs "time_intervals": a list of when it is')
        found[name] = tuple(_interval(child) for child in children)
    return found


def _interval(node: Node) -> TimeInterval:
    fields = node.fields(INTERVAL.names)

    def ranges(field: str) -> tuple[Range, ...]:
        if field not in fields:
            return ()
        found = (_range(item, field) for item in one_or_more(fields[field]))
        return tuple(one for one in found if one is not None)

    times = [one for item in fields["times"].items() if (one := _times(item)) is not None] if "times" in fields else []
    return TimeInterval(
        tuple(times),
        ranges("weekdays"),
        ranges("days_of_month"),
        ranges("months"),
        ranges("years"),
        read_location(fields["location"]) if "location" in fields else UTC,
    )


def _times(node: Node) -> Range | None:
    fields = node.fields(TIMES.names)
    minutes: list[int] = []
    for name in TIMES.names:
        text = fields[name].text() if name in fields else None
        if text is None or not _TIME.fullmatch(text):
            said = f'"{text}" is no time of day' if text is not None else f'a time of day needs "{name}"'
            (fields[name] if text is not None else node).problem(f"{said}: write HH:MM, 00:00 to 24:00")
            return None
        minutes.append(int(text[:2]) * 60 + int(text[3:]))
    if minutes[0] >= minutes[1]:
        node.problem("start_time is not before end_time: for a night, write two, until 24:00 and from 00:00")
        return None
    return minutes[0], minutes[1]


def _range(node: Node, field: str) -> Range | None:
    """``a`` or ``a:b``; a word or a number as the field has them."""
    text = node.text()
    if text is None:
        return None
    ends: list[int] = []
    for word in text.lower().split(":", 1) if ":" in text else [text.lower()] * 2:
        end = _end_of_range(word, field)
        if end is None:
            known = {"weekdays": WEEKDAYS, "months": MONTHS}.get(field, ())
            hint = {
                "weekdays": "write monday, or monday:friday",
                "months": "write january, 1, or january:march",
                "days_of_month": "write 1 to 31, -1 to -31 from the month's end, or 1:5",
                "years": "write 2026, or 2026:2028",
            }[field]
            node.problem(f'"{text}" is none of {field}: {hint}{suggestion(word, known)}')
            return None
        ends.append(end)
    first, last = ends
    if first < 0 < last:
        node.problem(f'"{text}": what begins counted from the month\'s end has to end so, too')
        return None
    if _from_start(first, field) > _from_start(last, field):
        node.problem(f'"{text}" ends before it begins: write two ranges')
        return None
    return first, last


def _end_of_range(word: str, field: str) -> int | None:
    if field == "weekdays":
        return WEEKDAYS.index(word) if word in WEEKDAYS else None
    if field == "months" and word in MONTHS:
        return MONTHS.index(word) + 1
    if not re.fullmatch(r"-?[0-9]{1,4}", word):
        return None
    number = int(word)
    if field == "months":
        return number if 1 <= number <= 12 else None
    if field == "days_of_month":
        return number if 1 <= abs(number) <= 31 else None
    return number if number >= 0 else None


def _from_start(day: int, field: str) -> int:
    return day + 32 if field == "days_of_month" and day < 0 else day


def read_location(node: Node) -> tzinfo | None:
    """Whose clock a field means; None for this machine's own."""
    name = node.text()
    if name is None or name in ("", "UTC"):
        return UTC
    if name == "Local":
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        node.problem(f'there is no time zone "{name}" here: write one such as Europe/Berlin, UTC or Local')
        return UTC


def _says_something(node: Node) -> bool:
    return bool(one_or_more(node)) and not node.is_false


def _group_by(node: Node) -> tuple[str, ...] | None:
    names: list[str] = []
    for item in one_or_more(node):
        text = item.text()
        if text == "":
            item.problem("a label's name is empty")
        names.append(text or "")
    if len(set(names)) < len(names):
        node.problem("a label stands here a second time")
    if "..." not in names:
        return tuple(sorted(set(names)))
    if len(names) > 1:
        node.problem('"..." stands for every label, and stands alone')
    return None


def _duration(fields: dict[str, Node], name: str, inherited: int) -> int:
    value = fields[name].duration_ms(*ROUTE.limits(name)) if name in fields else None
    return inherited if value is None else value


def _fields(node: Node, known: tuple[str, ...]) -> dict[str, Node]:
    """The fields of a mapping; those that Alertmanager had before matchers are refused with what to write instead."""
    fields = node.fields((*known, *(old for old, new in _OLD_FIELDS.items() if new in known)))
    for old in [name for name in fields if name in _OLD_FIELDS]:
        regex = old.endswith("_re")
        example = "['LABEL=~\"REGEX\"']" if regex else "['LABEL=\"VALUE\"']"
        fields.pop(old).problem(f'"{old}" is out of use: write `{_OLD_FIELDS[old]}: {example}`')
    return fields
