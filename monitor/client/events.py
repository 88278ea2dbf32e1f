"""What a feed tells a screen. Apart from the feed itself, so that a screen is painted before HTTP is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from monitor.client.errors import ClientError
from monitor.client.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Connecting:
    """What is being tried, for a screen that has no picture yet."""

    text: str


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """There is no daemon at the moment. The last picture is the past; another try comes in ``retry_seconds``."""

    error: ClientError
    retry_seconds: float


Event: TypeAlias = Snapshot | Connecting | ConnectionLost
