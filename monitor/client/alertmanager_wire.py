"""What Alertmanager's API sends and takes: alerts with what keeps them back, and silences."""

from __future__ import annotations

import json

import msgspec

from monitor.client.wire import parse_time

_CAMEL = "camel"


class Named(msgspec.Struct, frozen=True):
    """A receiver."""

    name: str


class AlertStatus(msgspec.Struct, frozen=True, rename=_CAMEL):
    """What keeps an alert back: ids of silences, fingerprints of alerts, names of time intervals."""

    state: str = ""
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()


class ManagedAlert(msgspec.Struct, frozen=True, rename=_CAMEL):
    """A firing alert. Times are RFC 3339."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    fingerprint: str = ""
    receivers: tuple[Named, ...] = ()
    status: AlertStatus = AlertStatus()


class SilenceMatcher(msgspec.Struct, frozen=True, rename=_CAMEL):
    """What one label has to be."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def __str__(self) -> str:
        op = ("=~" if self.is_regex else "=") if self.is_equal else "!~" if self.is_regex else "!="
        return f"{self.name}{op}{json.dumps(self.value, ensure_ascii=False)}"


class SilenceState(msgspec.Struct, frozen=True):
    """``active``, ``pending`` or ``expired``."""

    state: str = ""


class SilenceRow(msgspec.Struct, frozen=True, rename=_CAMEL):
    """A silence. Times are RFC 3339."""

    id: str
    matchers: tuple[SilenceMatcher, ...] = ()
    starts_at: str = ""
    ends_at: str = ""
    created_by: str = ""
    comment: str = ""
    status: SilenceState = SilenceState()

    @property
    def state(self) -> str:
        """``active``, ``pending`` or ``expired``."""
        return self.status.state

    @property
    def starts_at_ms(self) -> int | None:
        """When it begins."""
        return parse_time(self.starts_at)

    @property
    def ends_at_ms(self) -> int | None:
        """When it ends."""
        return parse_time(self.ends_at)


class NewSilence(msgspec.Struct, frozen=True, rename=_CAMEL, omit_defaults=True):
    """A silence that is asked for. Times are RFC 3339."""

    matchers: tuple[SilenceMatcher, ...]
    starts_at: str
    ends_at: str
    created_by: str
    comment: str
    id: str = ""
    """Of the silence that it is to take the place of; "" for a new one."""


class TestResult(msgspec.Struct, frozen=True):
    """What came back from one target of a receiver. ``target`` is its kind, never its URL."""

    receiver: str
    target: str
    ok: bool
    reason: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
