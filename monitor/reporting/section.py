"""The parts that a report in words is made of: sections with sentences, a table and a list."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.client.format import ABSENT

MOST_ROWS = 200
"""Of a table: a fleet's rows beyond that are in JSON alone."""


@dataclass(frozen=True, slots=True)
class Table:
    """``words`` are the columns of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it: sentences, a table, more sentences as a list."""

    title: str
    notes: tuple[str, ...] = ()
    table: Table | None = None
    items: tuple[str, ...] = ()


def cut(many: int, noun: str) -> tuple[str, ...]:
    """What is said where a table has not all of its rows."""
    return (f"The first {MOST_ROWS} of {many} {noun}; --format json has all.",) if many > MOST_ROWS else ()


def figure(value: float | None) -> str:
    """A number in three digits."""
    return ABSENT if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
