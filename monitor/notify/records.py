"""What the outbox keeps: deliveries, the ids of events, and the JSON of alerts and transitions."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, get_args

import msgspec

from monitor.records import replace
from monitor.rules.transition import Alert, State, Transition

Kind = Literal["firing", "resolved"]
DeliveryState = Literal["queued", "sent", "superseded", "dead"]


def event_id(transition: Transition) -> str:
    """The id of a transition, 24 hexadecimal digits: the same for every receiver, every repeat and after a restart, so
    that a receiver can drop what it has had."""
    text = f"{transition.alert.key}\0{transition.at_ms}\0{transition.after}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


class Delivery(msgspec.Struct, frozen=True):
    """One event that is due to one receiver."""

    event_id: str
    receiver: str
    kind: Kind
    transition: Transition
    attempts: int = 0
    """How often it was tried and failed."""
    next_attempt_ms: int = 0
    last_error: str = ""
    failing_since_ms: int | None = None
    """When it was first tried and failed."""

    @property
    def key(self) -> str:
        """The alert's key."""
        return self.transition.alert.key

    def failed(self, error: str, next_attempt_ms: int, now_ms: int) -> Delivery:
        """The same delivery after one more attempt that failed."""
        return replace(
            self,
            attempts=self.attempts + 1,
            next_attempt_ms=next_attempt_ms,
            last_error=error,
            failing_since_ms=now_ms if self.failing_since_ms is None else self.failing_since_ms,
        )


def alert_to_json(alert: Alert) -> str:
    """An alert as text. NaN and the infinities are kept, as Python's ``json`` writes them."""
    return json.dumps(
        {
            "key": alert.key,
            "group": alert.group,
            "rule": alert.rule,
            "state": alert.state,
            "labels": alert.labels,
            "annotations": dict(alert.annotations),
            "value": alert.value,
            "active_at_ms": alert.active_at_ms,
            "fired_at_ms": alert.fired_at_ms,
            "keep_firing_since_ms": alert.keep_firing_since_ms,
        },
        separators=(",", ":"),
    )


def alert_from_json(text: str) -> Alert:
    """The reverse of ``alert_to_json``. Raises ``ValueError`` for a text that is no alert."""
    try:
        data: dict[str, Any] = json.loads(text)
        return Alert(
            key=str(data["key"]),
            group=str(data["group"]),
            rule=str(data["rule"]),
            state=state_of(data["state"]),
            labels=tuple((str(name), str(value)) for name, value in data["labels"]),
            annotations={str(name): str(value) for name, value in data["annotations"].items()},
            value=float(data["value"]),
            active_at_ms=int(data["active_at_ms"]),
            fired_at_ms=_time(data["fired_at_ms"]),
            keep_firing_since_ms=_time(data["keep_firing_since_ms"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an alert: {type(error).__name__}: {error}") from None


def state_of(text: object) -> State:
    """The state that a text names. Raises ``ValueError``."""
    for state in get_args(State):
        if text == state:
            found: State = state
            return found
    raise ValueError(f"no such state: {text!r}")


def _time(value: Any) -> int | None:
    return None if value is None else int(value)
