"""Who is asked for rules, for alerts that are over and for silences: ``monitor.client.alerting``, or in a test whoever
answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from monitor.client.alertmanager_wire import SilenceRow
    from monitor.client.ended import Ended
    from monitor.client.rules import Rule
    from monitor.client.silences import Draft


class Alerting(Protocol):
    """Everything raises ``ClientError``."""

    async def rules(self) -> Sequence[Rule]:
        """Every rule, as it is now."""
        ...

    async def ended(self, at_ms: int | None) -> Sequence[Ended]:
        """What fired within a day before a moment, or now, and was over by then; the last first."""
        ...

    async def silences(self) -> Sequence[SilenceRow]:
        """Every silence, also those that are over."""
        ...

    async def silence(self, draft: Draft) -> str:
        """Make a silence, or change one; what then is, in words. Raises ``DraftError`` for what cannot be meant."""
        ...

    async def expire(self, ident: str) -> str:
        """End a silence now; what then is, in words."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
