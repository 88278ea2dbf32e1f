"""Alertmanager's inhibition: alerts that are not told because another says it already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from monitor.matchers import LabelMatcher, all_match, parse_matchers
from monitor.rules.transition import Alert
from monitor.samples import Labels

_REMEMBERED = 5_000


class InhibitRule(msgspec.Struct, frozen=True):
    """While an alert fires that the source matchers mean, those that the target matchers mean are not told, where both
    have the same values of the labels ``equal``; an absent label is equal to an empty one."""

    source_matchers: tuple[LabelMatcher, ...]
    target_matchers: tuple[LabelMatcher, ...]
    equal: tuple[str, ...] = ()


def _rule(source: str, target: str, *equal: str) -> InhibitRule:
    return InhibitRule(parse_matchers(source), parse_matchers(target), equal)


DEFAULT_INHIBIT_RULES = (
    # What a server that is down does to everything that is said of it.
    _rule('alertname="VllmServerDown"', 'server!="",alertname!="VllmServerDown"', "instance", "server"),
    # An engine that makes no step says more than what waits for it.
    _rule(
        'alertname="EngineFrozen"',
        'alertname=~"EngineStuck|ReadyNotServing|GpuStarved|QueueTimeGrowing|RequestQueueLong"',
        "instance",
        "server",
    ),
    _rule(
        'alertname="EngineStuck"',
        'alertname=~"ReadyNotServing|GpuStarved|QueueTimeGrowing|RequestQueueLong"',
        "instance",
        "server",
        "engine",
    ),
    # A GPU that fell off the bus runs neither hot nor slow. Its XIDs say why, and are told.
    _rule('alertname="GpuLost"', 'severity="warning",gpu!="",alertname!="GpuXidWarning"', "instance", "gpu"),
    # The worse of two that watch the same value.
    _rule(
        'severity="critical",alertname=~"GpuRecoveryNeeded|GpuThrottledHot|HostDiskFull|HostMemoryLow"',
        'severity="warning"',
        "alertname",
        "instance",
        "gpu",
        "device",
        "mountpoint",
    ),
    _rule('alertname="GpuTooHot"', 'alertname="GpuHot"', "instance", "gpu"),
    _rule('alertname=~"GpuMemoryFull|GpuMemoryOverShare"', 'alertname="GpuMemoryHigh"', "instance", "gpu"),
    _rule('alertname="KvCacheFull"', 'alertname="KvCacheHigh"', "instance", "server", "engine"),
    _rule('alertname="HostDiskFull"', 'alertname="HostDiskFilling"', "instance", "device", "mountpoint"),
    # A probe loads the node by itself.
    _rule('alertname="ProbeRunning"', 'load="true"', "instance"),
)
"""What holds where the configuration has no ``inhibit_rules``."""


class Inhibitor:
    """Says which alerts inhibit one. ``update`` when the alerts that fire have changed, then ask."""

    def __init__(self, rules: Iterable[InhibitRule] = ()) -> None:
        self._rules = tuple(rules)
        self._sources: list[dict[tuple[str, ...], list[tuple[str, bool]]]] = [{} for _ in self._rules]
        """By rule: the values of its equal labels, to the keys of alerts that have them, and whether each is a target
        of the same rule."""
        self._sides: dict[Labels, tuple[tuple[bool, bool], ...]] = {}
        """By labels: for each rule, whether they are a source, and whether a target."""

    def update(self, firing: Iterable[Alert]) -> None:
        """Say which alerts there are; those that do not fire inhibit nothing."""
        for source in self._sources:
            source.clear()
        if not self._rules:
            return
        for alert in firing:
            if alert.state != "firing":
                continue
            labels: Mapping[str, str] = dict(alert.labels)
            for rule, sources, (is_source, is_target) in zip(
                self._rules, self._sources, self._sides_of(alert.labels), strict=True
            ):
                if is_source:
                    values = tuple(labels.get(name, "") for name in rule.equal)
                    sources.setdefault(values, []).append((alert.key, is_target))

    def inhibited_by(self, labels: Labels) -> tuple[str, ...]:
        """Keys of the alerts that inhibit one with these labels, sorted. One that matches both sides of a rule is not
        inhibited by another of which that is true, itself among them."""
        found: set[str] = set()
        for rule, sources, (is_source, is_target) in zip(
            self._rules, self._sources, self._sides_of(labels), strict=True
        ):
            if not is_target or not sources:
                continue
            own = dict(labels)
            for key, two_sided in sources.get(tuple(own.get(name, "") for name in rule.equal), ()):
                if not (is_source and two_sided):
                    found.add(key)
        return tuple(sorted(found))

    def _sides_of(self, labels: Labels) -> tuple[tuple[bool, bool], ...]:
        sides = self._sides.get(labels)
        if sides is None:
            if len(self._sides) >= _REMEMBERED:
                self._sides.clear()
            own = dict(labels)
            sides = self._sides[labels] = tuple(
                (all_match(rule.source_matchers, own), all_match(rule.target_matchers, own)) for rule in self._rules
            )
        return sides
