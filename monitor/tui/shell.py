"""What a screen can ask of the application around it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from monitor.tui.server import Asked

if TYPE_CHECKING:
    from monitor.client.access import Address
    from monitor.tui.screens.window import Window


class Shell(Protocol):
    """The application, as its screens know it."""

    @property
    def server(self) -> Asked | None:
        """Who is asked for what the feed does not bring; None in a picture that nobody is behind."""
        ...

    @property
    def readonly(self) -> bool:
        """Whether nothing may be ended or changed from here."""
        ...

    def clock(self) -> float:
        """The clock that ages are measured with, in seconds."""
        ...

    def open(self, page: str, **about: object) -> None:
        """Show another screen; ``about`` is what it is to be about, see its ``about``."""
        ...

    def back(self) -> None:
        """Show the screen from which this one was opened."""
        ...

    def open_node(self, where: Address, page: str = "overview") -> None:
        """Look at one node of the fleet, on a screen."""
        ...

    def go_to(self, at_ms: int) -> None:
        """Take everything to a moment, and show the overview."""
        ...

    def travel_to(self, at_ms: int) -> None:
        """Take everything to a moment, on the screen that is open; what is later than now is now."""
        ...

    def cover(self, window: Window) -> None:
        """Put a window over the screen."""
        ...

    def do(self, work: Awaitable[None], name: str) -> None:
        """Run work beside the screen. It has to deal with ``ClientError`` itself."""
        ...

    def copy(self, text: str) -> None:
        """Give the terminal's clipboard a text (OSC 52); inside of tmux and screen, which keep that to themselves, show
        it plainly too."""
        ...

    def show_plainly(self, text: str) -> None:
        """Show nothing but a text, for the terminal's own selecting, until a key is pressed."""
        ...

    def press(self, key: str) -> None:
        """Do what a key does."""
        ...

    def action_live(self) -> None:
        """Be where now is."""
        ...

    def refetch(self) -> None:
        """Read again what the open screen reads beside the picture."""
        ...

    def keep(self, name: str, value: object) -> None:
        """Keep a setting, for this session and the next."""
        ...

    def kept(self, name: str) -> object | None:
        """A setting that was kept, or None."""
        ...
