"""How runs are called: what a person means by a name, and what a name is as part of a folder's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from monitor.probes.kept import NoSuchRun
from monitor.probes.schema import RunRow


def resolve(rows: Sequence[RunRow], name: str) -> RunRow:
    """The run that a person means by its id, the name of a baseline, the name that it is kept as, or how its id begins;
    the first of several, and ``rows`` are the newest first. Raises ``NoSuchRun``."""
    for matches in (
        [row for row in rows if row.id == name],
        [row for row in rows if row.baseline == name and name],
        [row for row in rows if row.name == name],
    ):
        if matches:
            return matches[0]
    begins = [row for row in rows if name and row.id.startswith(name)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise NoSuchRun(f"{name!r} may be {', '.join(row.id for row in begins[:5])}: say more of it")
    raise NoSuchRun(f"there is no run, baseline or name {name[:100]!r} here: `gpumon probe list` has them")


def slug(text: str) -> str:
    """A name as part of a folder's."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:60] or "probe"
