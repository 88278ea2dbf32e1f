"""What a server's ``ALERTS`` say of the past: each alert's states, with their beginnings and ends; and how two servers'
pasts differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.live.servers import QueryApi

Key: TypeAlias = tuple[tuple[str, str], ...]
"""An alert's labels, sorted, without ``alertstate``."""


@dataclass(frozen=True)
class Episode:
    """An alert was in a state. Seconds since the epoch."""

    state: str
    began: float
    """The evaluation that saw it first."""
    ended: float
    """The evaluation that saw it last."""
    goes_on: bool
    """Whether it is in that state still, as far as is known."""


History: TypeAlias = dict[Key, list[Episode]]


def history(where: QueryApi, since: float, until: float, interval: float) -> History:
    """All episodes between two moments, from the samples themselves; ``interval`` is that of the evaluation. One that
    goes on at ``until`` was seen within two intervals before it."""
    data = where.api("query", query=f"ALERTS[{int(until - since)}s]", time=f"{until:.3f}")
    assert data["resultType"] == "matrix", data["resultType"]
    found: History = {}
    for series in data["result"]:
        labels = dict(series["metric"])
        state = labels.pop("alertstate")
        del labels["__name__"]
        moments = [float(at) for at, _ in series["values"]]
        found.setdefault(tuple(sorted(labels.items())), []).extend(_episodes(state, moments, until, interval))
    for episodes in found.values():
        episodes.sort(key=lambda each: each.began)
    return found


def _episodes(state: str, moments: list[float], until: float, interval: float) -> Iterator[Episode]:
    began = last = moments[0]
    for at in [*moments[1:], float("inf")]:
        if at - last > 2.5 * interval:  # one evaluation that was late or left out is no end
            yield Episode(state, began, last, until - last <= 2 * interval)
            began = at
        last = at


def name_of(key: Key) -> str:
    """The alert's labels, for a person; the name first."""
    labels = dict(key)
    return f"{labels.pop('alertname')}{{{', '.join(f'{name}={value}' for name, value in sorted(labels.items()))}}}"


def told(episodes: list[Episode], zero: float) -> str:
    """``pending 12.0-41.9, firing 42.0-`` in seconds after ``zero``."""
    return ", ".join(
        f"{each.state} {each.began - zero:.1f}-{'' if each.goes_on else format(each.ended - zero, '.1f')}"
        for each in episodes
    )


@dataclass
class Comparison:
    """What two servers said of the same time."""

    alerts: int = 0
    largest: float = 0.0
    """The largest distance of all changes that both have, in seconds."""
    flickers: list[str] = field(default_factory=list)
    """Alerts that one side saw pending at a single evaluation, and that did not fire: they held for less than an
    interval, and the other may not have looked then."""
    differences: list[str] = field(default_factory=list)
    """Another sequence of states, or a change too far apart."""


def compare(ours: History, theirs: History, since: float, within: float) -> Comparison:
    """Hold them against each other: the same states in the same order, each change at most ``within`` seconds apart.

    A change before ``since`` may be the side's own beginning: only its state counts."""
    out = Comparison()
    for key in sorted(ours.keys() | theirs.keys()):
        sides = ours.get(key, []), theirs.get(key, [])
        texts = f"{name_of(key)}\n  ours:   {told(sides[0], since)}\n  theirs: {told(sides[1], since)}"
        one, other = sides
        if states(one) != states(other):
            one, other = steady(one), steady(other)
            if states(one) == states(other):
                out.flickers.append(texts)
            else:
                out.differences.append(f"another story of {texts}")
                continue
        out.alerts += bool(one)
        apart = 0.0
        for mine, yours in zip(one, other, strict=True):
            if min(mine.began, yours.began) > since:
                apart = max(apart, abs(mine.began - yours.began))
            if not mine.goes_on:
                apart = max(apart, abs(mine.ended - yours.ended))
        out.largest = max(out.largest, apart)
        if apart > within:
            out.differences.append(f"{apart:.1f} s apart: {texts}")
    return out


def states(episodes: list[Episode]) -> list[tuple[str, bool]]:
    """The sequence of states, and whether each goes on."""
    return [(each.state, each.goes_on) for each in episodes]


def steady(episodes: list[Episode]) -> list[Episode]:
    """Without those that were pending at one evaluation alone and did not fire after it."""
    return [
        each
        for each, after in zip(episodes, [*episodes[1:], None], strict=False)
        if each.state != "pending"
        or each.ended > each.began
        or each.goes_on
        or (after is not None and after.state == "firing" and after.began - each.ended < 60)
    ]


def longest_pending(episodes: list[Episode]) -> float:
    """For how long it was pending at the most, in seconds."""
    return max((each.ended - each.began for each in episodes if each.state == "pending"), default=0.0)


def fired(past: Mapping[Key, list[Episode]]) -> set[Key]:
    """The alerts that fired at any time."""
    return {key for key, episodes in past.items() if any(each.state == "firing" for each in episodes)}


def active(past: Mapping[Key, list[Episode]]) -> dict[Key, str]:
    """The alerts that are pending or firing at the end, with their state."""
    return {key: episodes[-1].state for key, episodes in past.items() if episodes[-1].goes_on}
