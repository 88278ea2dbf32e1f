"""The colours, once: for a dark background; a theme changes them for another. They come from the 256 that nearly every
terminal has, and the background is the terminal's own. Hues follow Okabe and Ito, which the colour-blind can tell
apart; and no colour stands alone: a word beside it says the same.
"""

from __future__ import annotations

from rich.style import Style

PLAIN = Style()
STRONG = Style(bold=True)
DIM = Style(color="color(247)")
FAINT = Style(color="color(241)")
BRAND = Style(color="color(74)", bold=True)
TITLE = Style(color="color(74)", bold=True)
KEY = Style(color="color(74)")

GOOD = Style(color="color(72)")
NOTICE = Style(color="color(179)")
WARNING = Style(color="color(214)", bold=True)
CRITICAL = Style(color="color(203)", bold=True)
BADGE = Style(color="color(214)", bold=True)
CURSOR = Style(color="color(214)")
HERE = Style(bold=True, underline=True)
"""What is open or chosen, among others."""
PAST = Style(color="color(214)", bold=True, reverse=True)
ALARM = Style(color="color(203)", bold=True, reverse=True)

STALE = Style(color="color(244)")
"""Whatever is old: one grey for all, so that nothing of the past looks alive."""

UTILIZATION = Style(color="color(74)")
TEMPERATURE = Style(color="color(179)")
MEMORY = Style(color="color(140)")
PROMPT = Style(color="color(67)")
GENERATION = Style(color="color(72)")
RUNNING = Style(color="color(74)")
WAITING = Style(color="color(179)")
CACHE = Style(color="color(140)")
LATENCY = Style(color="color(175)")
FINISHED = Style(color="color(72)")
CPU = Style(color="color(74)")
HOST_MEMORY = Style(color="color(140)")
NETWORK = Style(color="color(72)")
DISK = Style(color="color(179)")


def severity(name: str) -> Style:
    """How an alert's severity looks; its word stands beside it."""
    if name in ("critical", "page", "error"):
        return CRITICAL
    return WARNING if name in ("warning", "") else NOTICE
