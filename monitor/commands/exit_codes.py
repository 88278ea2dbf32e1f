"""How commands end: one table, for help, docs and tests."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
BUSY: Final = 3
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141

EXIT_CODES: Final = {
    DONE: "It was done; nothing is wrong.",
    PROBLEM: "A problem was found, or the work failed; it is said which.",
    USAGE: "The command line cannot be meant: an option, an expression, a file or an address that is none.",
    BUSY: "`gpumon probe` alone: the server has other work, and nothing was sent.",
    INTERRUPTED: "Interrupted, by Ctrl-C, or a probe that was cancelled.",
    CLOSED_PIPE: "Who read the output closed it, as `head` does.",
}
"""What each means, for a person."""
