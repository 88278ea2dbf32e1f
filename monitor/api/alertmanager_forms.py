"""Alertmanager's JSON for alerts and silences: what is sent, what is asked for, and what is posted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request

from monitor.api.http import UNREADABLE
from monitor.api.node import Node
from monitor.go_regex import RegexError, to_python
from monitor.matchers import LabelMatcher, MatcherError, Op, all_match, parse_matcher
from monitor.notify.policy import Suppression
from monitor.notify.silences import Silence
from monitor.rules.transition import Alert

_MOST_BYTES = 16 * 1024
_TRUE = frozenset(["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDER = {"active": 0, "pending": 1, "expired": 2}


class Refused(Exception):
    """A request that Alertmanager would refuse. ``body`` is the JSON to answer, None for an empty answer."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def coded(status: int, message: str, code: int | None = None) -> Refused:
    """A refusal in the form that Alertmanager has for requests that its description does not allow."""
    return Refused(status, {"code": status if code is None else code, "message": message})


def stamp(at_ms: int) -> str:
    """A moment with its milliseconds: ``2026-11-21T12:02:28.410Z``."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


# -- alerts ------------------------------------------------------------------------------------------------------------


class Wanted:
    """Which alerts a request asks for: ``filter``, ``receiver``, ``active``, ``silenced``, ``inhibited``, ``muted``.
    Raises ``Refused``."""

    def __init__(self, request: Request) -> None:
        query = request.query_params
        self.matchers = filters(request)
        self.receiver = _receiver(query.get("receiver", ""))
        self.active, self.silenced, self.inhibited, self.muted = (
            query.get(name, "true").lower() in _TRUE for name in ("active", "silenced", "inhibited", "muted")
        )

    def takes(self, alert: Alert, suppression: Suppression) -> bool:
        """Whether an alert is asked for, as far as its labels and what keeps it back go."""
        if not all_match(self.matchers, dict(alert.labels)):
            return False
        if not suppression:
            return self.active
        return (self.silenced or not suppression.silenced_by) and (self.inhibited or not suppression.inhibited_by)


def filters(request: Request) -> list[LabelMatcher]:
    """Every ``filter``, a matcher each. Raises ``Refused``."""
    texts = request.query_params.getlist("filter")
    for text in texts:
        if text.startswith("{") or text.endswith("}"):
            raise Refused(400, f"unexpected open or close brace: {text}")
    try:
        return [parse_matcher(text) for text in texts]
    except MatcherError as error:
        raise Refused(400, f"bad matcher format: {error}") from None


def _receiver(text: str) -> Callable[[Iterable[str]], bool]:
    if not text:
        return lambda names: True
    try:
        pattern = re.compile(f"(?:{to_python(text)})")
    except (RegexError, re.error, OverflowError, RecursionError) as error:
        raise Refused(400, f"failed to parse receiver param: {error}") from None
    return lambda names: any(pattern.fullmatch(name) for name in names)


def alert_json(
    node: Node, alert: Alert, now_ms: int, receivers: Iterable[str], suppression: Suppression, muted_by: str = ""
) -> dict[str, Any]:
    """A firing alert. Its ``endsAt`` is when it would be over if nothing were heard of it any more."""
    since_ms = alert.fired_at_ms if alert.fired_at_ms is not None else alert.active_at_ms
    return {
        "annotations": dict(alert.annotations),
        "endsAt": stamp(now_ms + 3 * node.config.evaluation_interval_ms),
        "fingerprint": alert.key,
        "receivers": [{"name": name} for name in receivers],
        "startsAt": stamp(since_ms),
        "status": {
            "inhibitedBy": list(suppression.inhibited_by),
            "mutedBy": [muted_by] if muted_by else [],
            "silencedBy": list(suppression.silenced_by),
            "state": "suppressed" if suppression or muted_by else "active",
        },
        "updatedAt": stamp(now_ms),
        "labels": dict(alert.labels),
    }


# -- silences ----------------------------------------------------------------------------------------------------------


def silence_json(silence: Silence, now_ms: int) -> dict[str, Any]:
    """A silence, with its state now."""
    return {
        "id": silence.id,
        "status": {"state": silence.state(now_ms)},
        "updatedAt": stamp(silence.updated_at_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": stamp(silence.ends_at_ms),
        "matchers": [
            {
                "isEqual": matcher.op in ("=", "=~"),
                "isRegex": matcher.op in ("=~", "!~"),
                "name": matcher.name,
                "value": matcher.value,
            }
            for matcher in silence.matchers
        ],
        "startsAt": stamp(silence.starts_at_ms),
    }


def in_order(silences: Iterable[Silence], now_ms: int) -> list[Silence]:
    """The active ones first, next to end first; then the pending, next to begin first; then the expired, last ended
    first."""

    def key(silence: Silence) -> tuple[int, int]:
        state = silence.state(now_ms)
        at = {"active": silence.ends_at_ms, "pending": silence.starts_at_ms, "expired": -silence.ends_at_ms}[state]
        return _ORDER[state], at

    return sorted(silences, key=key)


def is_about(silence: Silence, matchers: Iterable[LabelMatcher]) -> bool:
    """Whether a silence is found by filters: each has to be one of its own matchers."""
    return all(matcher in silence.matchers for matcher in matchers)


class _PostedMatcher(msgspec.Struct, rename={"is_regex": "isRegex", "is_equal": "isEqual"}):
    is_regex: bool | None = None
    name: str | None = None
    value: str | None = None
    is_equal: bool | None = None


class _PostedSilence(msgspec.Struct, rename={"created_by": "createdBy", "ends_at": "endsAt", "starts_at": "startsAt"}):
    comment: str | None = None
    created_by: str | None = None
    ends_at: str | None = None
    matchers: list[_PostedMatcher] | None = None
    starts_at: str | None = None
    id: str | None = None


def posted_silence(body: bytes) -> Silence:
    """What a client posts, in the order in which Alertmanager finds fault with it. Raises ``Refused``."""
    if not body:
        raise coded(422, "silence in body is required", 602)
    if len(body) > _MOST_BYTES:
        raise Refused(400, f"a silence has at most {_MOST_BYTES} bytes")
    try:
        posted = msgspec.json.decode(body, type=_PostedSilence | None) or _PostedSilence()
    except UNREADABLE as error:
        raise coded(400, f'parsing silence body from "" failed, because {error}') from None
    return Silence(
        comment=_given("comment", posted.comment),
        created_by=_given("createdBy", posted.created_by),
        ends_at_ms=_moment("endsAt", posted.ends_at),
        matchers=_matchers(posted.matchers),
        starts_at_ms=_moment("startsAt", posted.starts_at),
        id=posted.id or "",
    )


def _matchers(posted: list[_PostedMatcher] | None) -> tuple[LabelMatcher, ...]:
    if posted is None:
        raise coded(422, "matchers in body is required", 602)
    if not posted:
        raise coded(422, "matchers in body should have at least 1 items", 612)
    return tuple(_matcher(number, one) for number, one in enumerate(posted))


def _matcher(number: int, posted: _PostedMatcher) -> LabelMatcher:
    if posted.is_regex is None:
        raise coded(422, f"matchers.{number}.isRegex in body is required", 602)
    name = _given(f"matchers.{number}.name", posted.name)
    value = _given(f"matchers.{number}.value", posted.value)
    op: Op = ("=~" if posted.is_regex else "=") if posted.is_equal is not False else "!~" if posted.is_regex else "!="
    if not name:
        raise Refused(400, f'invalid silence: invalid label matcher {number}: invalid label name ""')
    try:
        return LabelMatcher(name, op, value)
    except MatcherError as error:
        raise Refused(400, f"invalid silence: invalid label matcher {number}: {error}") from None


def _given(field: str, value: str | None) -> str:
    if value is None:
        raise coded(422, f"{field} in body is required", 602)
    return value


def _moment(field: str, text: str | None) -> int:
    text = _given(field, text)
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            raise ValueError("it has no time zone")
        delta = moment.astimezone(UTC) - _EPOCH  # and not beyond the years that can be written again
    except (ValueError, OverflowError):
        why = f'parsing silence body from "" failed, because {field} "{text[:40]}" is no time'
        raise coded(400, f"{why}: write 2026-01-31T12:00:00Z") from None
    return delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000
