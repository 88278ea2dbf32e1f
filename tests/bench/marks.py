"""Writes what a command measured into docs/weight.md, between two marks; what stands around them is by hand."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "weight.md"


def machine() -> str:
    """This machine, in words: numbers of two machines are not compared."""
    cpu = next(
        (each.split(":", 1)[1].strip() for each in _lines(Path("/proc/cpuinfo")) if each.startswith("model name")),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {cpu}, Linux {platform.release()}, Python {platform.python_version()}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def commit() -> str:
    """The commit that was measured, with a + where files differ from it, besides those that a run writes itself;
    nothing outside of a clone."""
    found = _git("rev-parse", "--short=9", "HEAD").strip()
    mine = [f":(exclude){path.relative_to(ROOT)}" for path in (PAGE, PAGE.with_suffix(".json"))]
    differs = found and _git("status", "--porcelain", "--untracked-files=no", "--", ".", *mine)
    return f"{found}+" if differs else found


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def measured(how: str = "") -> str:
    """When, of what, where and how, in a line."""
    said = f"Measured {datetime.now(UTC):%Y-%m-%d} at {commit() or 'no commit'}, on {machine()}"
    return f"{said}, {how}." if how else f"{said}."


def replaced(text: str, name: str, made: str) -> str:
    """The page with ``made`` between ``<!-- name: … -->`` and the next ``<!-- end -->``. Raises ``ValueError`` without
    them."""
    marks = re.compile(rf"(<!-- {re.escape(name)}: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise ValueError(f"the page has no <!-- {name}: … --> with its <!-- end -->")
    return marks.sub(lambda found: f"{found[1]}\n{made}\n{found[2]}", text, count=1)


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Put ``text`` between its marks. Raises ``ValueError`` without them."""
    page.write_text(replaced(page.read_text(), name, text))
