"""How a run of faults is shown: a block a fault while it goes, and the table of a page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import FAULTS, Fault, Outcome

BEGIN = "<!-- made by `python -m tests.faults --markdown docs/faults.md`: from here -->"
END = "<!-- to here -->"
_NEVER = "not run yet"


@dataclass(frozen=True)
class Line:
    """One fault, and what became of it."""

    fault: Fault
    outcome: Outcome | None
    not_run: str
    """Why it was not tried."""
    seconds: float
    broken: str = ""
    """How it ended in the middle: what it waited for and did not come, or a fault of the harness itself."""

    @property
    def problems(self) -> list[str]:
        """Promises that were broken."""
        found = [self.broken.strip()] if self.broken else []
        return found + (self.outcome.problems if self.outcome is not None else [])

    def cells(self) -> tuple[str, str, str, str, str]:
        """Fault, told by and after, meanwhile, recovered after, lost."""
        if self.not_run:
            return self.fault.what, f"not run: {self.not_run}", "", "", ""
        if self.outcome is None:
            text = self.broken.strip().splitlines()
            # A traceback's sentence is its last line; of what did not come, it is the first, before the log's end.
            return self.fault.what, f"**broken**: {text[-1 if text[0].startswith('Traceback') else 0]}", "", "", ""
        seen = "; ".join(f"{what} ({channel}) {after:.1f} s" for what, channel, after in self.outcome.seen)
        recovered = "" if self.outcome.recovered is None else f"{self.outcome.recovered:.1f} s"
        if recovered and not self.outcome.by_itself:
            recovered += ", by hand"
        lost = self.outcome.lost or "nothing"
        if self.outcome.problems:
            lost += "; **" + "; ".join(self.outcome.problems) + "**"
        return self.fault.what, seen, self.outcome.meanwhile, recovered, lost

    def text(self) -> str:
        """For a terminal."""
        what, seen, meanwhile, recovered, lost = self.cells()
        state = "not run" if self.not_run else "BROKEN" if self.problems else "held"
        rows = [
            f"{state:8} {self.fault.group}/{self.fault.name}: {what}  [{self.seconds:.0f} s]",
            f"         told       {seen}",
        ]
        if not self.not_run:
            rows += [
                f"         meanwhile  {meanwhile}",
                f"         recovered  {recovered}",
                f"         lost       {lost}",
            ]
        rows += [f"         ! {each}" for problem in self.problems for each in problem.splitlines()[:30]]
        return "\n".join(rows)


def summary(lines: Sequence[Line], seconds: float) -> str:
    """The last line."""
    broken = [line.fault.name for line in lines if line.problems]
    idle = sum(bool(line.not_run) for line in lines)
    held = len(lines) - len(broken) - idle
    text = f"{len(lines)} faults in {seconds:.0f} s: {held} held, {len(broken)} broken, {idle} not run"
    return text + (f": {', '.join(broken)}" if broken else "")


def markdown(lines: Sequence[Line], seconds: float, old: str = "") -> str:
    """The table of the page, grouped. Rows of faults that were not asked for now are kept from ``old``, the table as it
    is, and so is what it says of the whole run."""
    rows = {line.fault.name: "| " + " | ".join(cell(each) for each in line.cells()) + " |" for line in lines}
    kept = {row.split(" | ")[0].removeprefix("| "): row for row in old.splitlines() if row.startswith("| ")}
    for one in FAULTS.values():
        rows.setdefault(one.name, kept.get(cell(one.what), f"| {cell(one.what)} | {_NEVER} | | | |"))
    idle = sum("| not run" in row for row in rows.values())
    broken = sum("**" in row for row in rows.values())
    whole = f"All in {seconds / 60:.0f} min on {os.cpu_count()} processors, Python {platform.python_version()}."
    if len(lines) < len(FAULTS):
        whole = next((line for line in old.splitlines() if line.startswith("All in ")), "")
    held = len(rows) - idle - broken
    found = [f"**{len(rows)} faults: {held} held, {broken} broken, {idle} not run.**", *filter(None, [whole]), ""]
    for group in dict.fromkeys(one.group for one in FAULTS.values()):
        found += [
            f"### {group}",
            "",
            "| broken | told, by (channel), after | meanwhile | all well after | lost |",
            "|---|---|---|---|---|",
            *(rows[one.name] for one in FAULTS.values() if one.group == group),
            "",
        ]
    return "\n".join(found)


def write(path: Path, lines: Sequence[Line], seconds: float) -> None:
    """Put the table between the page's markers. Raises ``ValueError`` where it has none."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no place for the table: a line {BEGIN!r} and one {END!r}")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{markdown(lines, seconds, old)}\n{END}{after}")


def cell(text: str) -> str:
    """A text as it stands in the table."""
    return text.replace("|", "\\|").replace("***", "\\*\\*\\*").replace("\n", " ")
