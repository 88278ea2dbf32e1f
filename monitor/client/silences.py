"""Silences as a person writes them: matchers that are tried on the alerts that there are, before anything is sent."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.client.alertmanager_wire import NewSilence, SilenceMatcher, SilenceRow
from monitor.client.snapshot import Alert
from monitor.client.wire import parse_time
from monitor.durations import parse_duration_ms
from monitor.matchers import LabelMatcher, MatcherError, Op, all_match, parse_matcher

__all__ = [
    "OPS",
    "Draft",
    "DraftError",
    "LabelMatcher",
    "MatcherError",
    "Op",
    "held",
    "holding",
    "matchers_of",
    "parse_matcher",
    "user",
]

OPS: tuple[Op, ...] = ("=", "!=", "=~", "!~")
_LONGEST_MS = 10 * 365 * 86_400_000


class DraftError(ValueError):
    """A silence that cannot be meant; the text says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A silence that was not sent."""

    matchers: tuple[LabelMatcher, ...]
    lasting: str
    """From now on, or from its begin where that is to come, as Prometheus writes durations: ``2h``, ``1d12h``."""
    comment: str
    creator: str
    id: str = ""
    """Of the silence that it changes; "" for a new one."""
    starts_at: str = ""
    """When that began, RFC 3339."""

    @property
    def lasting_ms(self) -> int:
        """How long it is to be. Raises ``DraftError``."""
        found = parse_duration_ms(self.lasting.replace(" ", ""))
        if not found:
            raise DraftError(f"“{self.lasting}” is no duration: write 30m, 2h or 1d12h")
        if found > _LONGEST_MS:
            raise DraftError(f"{self.lasting} is longer than ten years")
        return found

    def check(self) -> None:
        """Raises ``DraftError`` with the first reason why it cannot be sent."""
        if not self.matchers:
            raise DraftError("no matcher is on: it would silence everything")
        if all(one.accepts("") for one in self.matchers):
            raise DraftError("it would silence everything: one matcher at least has to ask for a label that is there")
        _ = self.lasting_ms
        if not self.comment.strip():
            raise DraftError("say why, so that others know")
        if not self.creator.strip():
            raise DraftError("say who you are")

    def wanted(self, now_ms: int) -> NewSilence:
        """What is sent. Raises ``DraftError``."""
        self.check()
        # One that has begun is the same silence still only if its begin stays; one that is to come begins then.
        begin_ms = parse_time(self.starts_at) if self.id else None
        return NewSilence(
            tuple(SilenceMatcher(one.name, one.value, one.op in ("=~", "!~"), one.positive) for one in self.matchers),
            rfc3339(now_ms) if begin_ms is None else self.starts_at,
            rfc3339(max(now_ms, begin_ms or 0) + self.lasting_ms),
            self.creator.strip(),
            self.comment.strip(),
            self.id,
        )


def matchers_of(row: SilenceRow) -> tuple[LabelMatcher, ...]:
    """A silence's matchers. Raises ``MatcherError`` for a regular expression that is none here."""
    return tuple(LabelMatcher(one.name, _op(one), one.value) for one in row.matchers)


def _op(one: SilenceMatcher) -> Op:
    return OPS[2 * one.is_regex + (not one.is_equal)]


def held(matchers: Sequence[LabelMatcher], alerts: Iterable[Alert]) -> list[Alert]:
    """The alerts that are meant by all matchers; none where there is no matcher."""
    return [one for one in alerts if matchers and all_match(matchers, one.labels)]


def holding(rows: Iterable[SilenceRow]) -> tuple[tuple[SilenceRow, tuple[LabelMatcher, ...]], ...]:
    """The silences that hold now, with their matchers; those that cannot be read here are left out."""
    found = []
    for row in rows:
        if row.state == "active":
            with contextlib.suppress(MatcherError):
                found.append((row, matchers_of(row)))
    return tuple(found)


def user() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"uid {os.getuid()}"


def rfc3339(at_ms: int) -> str:
    """A moment as Alertmanager takes it."""
    whole = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
