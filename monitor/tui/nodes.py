"""Which node is looked at, where there are several: the fleet, or one of its nodes, and the way between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from monitor.client.snapshot import Snapshot
from monitor.tui.server import Asked, Feed

if TYPE_CHECKING:
    from monitor.client.access import Address
    from monitor.tui.app import GpumonApp

Dial: TypeAlias = "Callable[[Address], tuple[Feed, Asked | None]]"
"""Opens the feed of a node, and gives whom its screens ask."""


class Nodes:
    """Turns an application from the fleet to a node and back. Without a fleet it does nothing."""

    def __init__(self, app: GpumonApp, dial: Dial | None) -> None:
        self._app = app
        self._dial = dial
        self._fleet: tuple[Feed, Asked | None] | None = None
        self._picture: Snapshot | None = None
        """The last one of the fleet, for when it is come back to."""
        self.at_fleet = False
        self._then: int | None = None
        """The moment that was looked at before, which is gone to in what was opened."""

    @property
    def there_is_one(self) -> bool:
        """Whether there is a fleet to go to."""
        return self._fleet is not None

    def heed(self, picture: Snapshot, feed: Feed) -> bool:
        """Take note of a picture; whether the fleet has just been found to be one."""
        if picture.node.mode == "fleet":
            self._picture = picture
        new = picture.node.mode == "fleet" and self._fleet is None
        if new:
            self._fleet, self.at_fleet = (feed, self._app.server), True
        return new

    def then(self) -> int | None:
        """The moment to go to now that there is a picture; once."""
        at_ms, self._then = self._then, None
        return at_ms

    def open(self, where: Address, page: str) -> None:
        """Look at one node, on a screen."""
        if self._dial is not None and self.at_fleet:
            self.at_fleet, self._then = False, self._app.travel.at_ms
            feed, server = self._dial(where)
            self._app.connect(feed, server, page)

    def back(self) -> None:
        """Look at the fleet again."""
        if self._fleet is not None and not self.at_fleet:
            self.at_fleet, self._then = True, self._app.travel.at_ms
            self._app.connect(*self._fleet, "fleet", self._picture)
