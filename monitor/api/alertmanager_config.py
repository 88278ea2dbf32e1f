"""The node's routes, receivers and rules of inhibition as Alertmanager's configuration, for `amtool config show`.

Who is told is there by name alone: URLs and tokens are nobody's business.
"""

from __future__ import annotations

import calendar
from typing import Any

import yaml

from monitor.config import Config
from monitor.matchers import LabelMatcher
from monitor.notify.inhibition import InhibitRule
from monitor.notify.mute_times import Range, TimeInterval
from monitor.notify.route import Route
from monitor.yaml_reader import format_duration

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_NOBODY = "nobody"


def config_text(config: Config) -> str:
    """YAML that Alertmanager and amtool read. A route with several receivers has one there that is called after all of
    them."""
    names = [receiver.name for receiver in config.receivers]
    whole: dict[str, Any] = {"route": {"receiver": _NOBODY} if config.route is None else _route(config.route, names)}
    if config.inhibit_rules:
        whole["inhibit_rules"] = [_inhibit_rule(rule) for rule in config.inhibit_rules]
    if config.time_intervals:
        whole["time_intervals"] = [
            {"name": name, "time_intervals": [_time_interval(one) for one in intervals]}
            for name, intervals in config.time_intervals.items()
        ]
    whole["receivers"] = [{"name": name} for name in (names if config.route is not None else [*names, _NOBODY])]
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)


def _route(route: Route, names: list[str], parent: Route | None = None) -> dict[str, Any]:
    name = ", ".join(route.receivers)
    if name not in names:
        names.append(name)
    found: dict[str, Any] = {"receiver": name}
    if route.matchers:
        found["matchers"] = _matchers(route.matchers)
    if parent is None or route.group_by != parent.group_by:
        found["group_by"] = ["..."] if route.group_by is None else list(route.group_by)
    for field in ("group_wait", "group_interval", "repeat_interval"):
        value: int = getattr(route, f"{field}_ms")
        if parent is None or value != getattr(parent, f"{field}_ms"):
            found[field] = format_duration(value)
    for field in ("mute_time_intervals", "active_time_intervals"):
        if getattr(route, field):
            found[field] = list(getattr(route, field))
    if route.continues:
        found["continue"] = True
    if route.routes:
        found["routes"] = [_route(child, names, route) for child in route.routes]
    return found


def _inhibit_rule(rule: InhibitRule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "source_matchers": _matchers(rule.source_matchers),
        "target_matchers": _matchers(rule.target_matchers),
    }
    if rule.equal:
        found["equal"] = list(rule.equal)
    return found


def _matchers(matchers: tuple[LabelMatcher, ...]) -> list[str]:
    return [str(matcher) for matcher in matchers]


def _time_interval(interval: TimeInterval) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if interval.times:
        found["times"] = [{"start_time": _clock(start), "end_time": _clock(end)} for start, end in interval.times]
    if interval.weekdays:
        found["weekdays"] = [_range(one, _WEEKDAYS) for one in interval.weekdays]
    if interval.days_of_month:
        found["days_of_month"] = [_range(one) for one in interval.days_of_month]
    if interval.months:
        found["months"] = [_range(one, [name.lower() for name in calendar.month_name]) for one in interval.months]
    if interval.years:
        found["years"] = [_range(one) for one in interval.years]
    found["location"] = "Local" if interval.location is None else str(interval.location)
    return found


def _range(ends: Range, words: tuple[str, ...] | list[str] | None = None) -> str:
    first, last = (str(end) if words is None else words[end] for end in ends)
    return first if first == last else f"{first}:{last}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
