"""What goes wrong on the way to a daemon, told for a person: what, where, and what to do.

ClientError          the request gave nothing
├── Refused          the server answered, and said no: a bad query, a path it does not know
└── Unreachable      nobody answered: no socket, no right to open it, a connection that broke
"""

from __future__ import annotations


class ClientError(Exception):
    """``what`` went wrong, ``where`` it did (a target), and ``cure``: what to do, or "" where nothing is known."""

    def __init__(self, what: str, where: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.cure}" if self.cure else text


class Refused(ClientError):
    """The server answered with an error. ``status`` is HTTP's."""

    def __init__(self, what: str, where: str = "", cure: str = "", status: int = 0) -> None:
        super().__init__(what, where, cure)
        self.status = status


class Unreachable(ClientError):
    """Nobody answered."""
