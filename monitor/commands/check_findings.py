"""What ``gpumon check`` finds, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from monitor.yaml_reader import Problem

Weight = Literal["problem", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: where, how bad, and what. ``line`` 0 is the file as a whole. A finding about a selector
    names it, its group and its rule."""

    path: str
    line: int
    column: int
    weight: Weight
    message: str
    group: str = ""
    rule: str = ""
    selector: str = ""

    def __str__(self) -> str:
        """``path:line:column: message``, as compilers write it; a problem has no word in front."""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}" if self.weight == "problem" else f"{place}: {self.weight}: {self.message}"

    def fields(self) -> dict[str, str | int]:
        """For JSON."""
        found: dict[str, str | int] = {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "weight": self.weight,
            "message": self.message,
        }
        more = {"group": self.group, "rule": self.rule, "selector": self.selector}
        return found | {key: value for key, value in more.items() if value}


def of_problems(problems: Iterable[Problem]) -> list[Finding]:
    """The problems of a file that is refused."""
    return [Finding(one.path, one.line, one.column, "problem", one.message) for one in problems]
