"""What rules tell the rest: alerts as they are, and each change of state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from monitor.samples import Labels

State = Literal["inactive", "pending", "firing"]


class Alert(msgspec.Struct, frozen=True):
    """An alert that is active, as ``/api/v1/alerts`` shows it. Also what is kept over a restart."""

    key: str
    """A fingerprint of group, rule and labels, the same over restarts and reloads."""
    group: str
    rule: str
    """The rule's name, which is the label ``alertname``."""
    state: State
    labels: Labels
    """With ``alertname``, without ``__name__``."""
    annotations: Mapping[str, str]
    value: float
    active_at_ms: int
    """Since when its expression has held."""
    fired_at_ms: int | None
    keep_firing_since_ms: int | None
    """Since when its expression has no longer held, while ``keep_firing_for`` holds it up."""


class Transition(msgspec.Struct, frozen=True):
    """An alert changed its state."""

    alert: Alert
    """As it is after the change; for one that ended, as it last was."""
    before: State
    after: State
    at_ms: int
    reason: str = ""
    """Why an alert ended, where it was not for its expression's being false: ``data gone: nvml``."""
