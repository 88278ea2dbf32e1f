"""What all runs of a machine have counted, kept as JSON beside the corpora, and the table that is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.fuzz.findings import FINDINGS
from tests.fuzz.target import NAMES, Target, load

BEGIN, END = "<!-- made by `python -m tests.fuzz --markdown` -->", "<!-- end -->"


@dataclass
class Count:
    """Of one target, over all runs."""

    inputs: int = 0
    seconds: float = 0.0
    """Of CPU."""
    kept: int = 0
    """Inputs of the corpus, each of which reaches something that no other does."""
    edges: int = 0
    hit: int = 0
    lines: int = 0
    open: list[str] = field(default_factory=list)
    """What is found and not mended, by the last run or before."""


@dataclass
class Tally:
    """Of every target."""

    counts: dict[str, Count] = field(default_factory=dict)
    requests: int = 0
    """That schemathesis sent."""
    operations: str = ""
    """``41 of 41``."""
    api_seconds: float = 0.0


def read(path: Path) -> Tally:
    """What was kept; nothing where nothing was."""
    return msgspec.json.decode(path.read_bytes(), type=Tally) if path.exists() else Tally()


def write(path: Path, tally: Tally) -> None:
    """Keep it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(tally)) + b"\n")


def table(tally: Tally) -> str:
    """Markdown: a row a target, and the findings."""
    lines = [
        "| target | reads | besides | inputs | CPU | corpus | lines reached |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    whole = Count()
    for name in NAMES:
        count, target = tally.counts.get(name, Count()), load(name)
        lines.append(_row(name, target, count))
        whole.inputs += count.inputs
        whole.seconds += count.seconds
    if tally.requests:
        lines.append(
            f"| `openapi` | `docs/openapi.json` against a daemon | answers are of the described form; no HTTP 500 |"
            f" {tally.requests:,} | {_time(tally.api_seconds)} by the clock | | {tally.operations} operations |"
        )
    lines.append(f"| in all | | | {whole.inputs + tally.requests:,} | {_time(whole.seconds)} | | |")
    lines += ["", f"Found and mended: {len(FINDINGS)}.", "", "| target | what was wrong | held by |", "|---|---|---|"]
    lines += [f"| `{one.target}` | {one.what} | `{one.test.partition('::')[2]}` |" for one in FINDINGS]
    still = [f"`{name}`: {what}" for name, count in tally.counts.items() for what in count.open]
    lines += ["", f"Open after the last run: {'; '.join(still) or 'nothing'}."]
    return "\n".join(lines)


def _row(name: str, target: Target, count: Count) -> str:
    reached = f"{count.hit / count.lines:.0%} of {count.lines:,}" if count.lines else ""
    return (
        f"| `{name}` | {target.what} | {target.promise} | {count.inputs:,} | {_time(count.seconds)} | {count.kept:,} |"
        f" {reached} |"
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def put(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page. Raises ``ValueError`` where there are none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the table: {BEGIN} and {END}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def names_of(wanted: Sequence[str]) -> list[str]:
    """The targets that are meant: all of them for none. Raises ``ValueError`` for one that there is not."""
    for name in wanted:
        if name not in (*NAMES, "openapi"):
            raise ValueError(f"there is no target {name}; there are {', '.join((*NAMES, 'openapi'))}")
    return list(wanted) or [*NAMES, "openapi"]
