"""The commands, their options and arguments, as ``commands.tsv`` beside this file has them. It is made from the click
tree by ``python -m tests.docs.reference``, and a test keeps it current: reading it takes a millisecond, the click tree
with the workloads of probes a hundred times as long.

A line is ``command PATH HELP``, ``option PATH NAMES VALUE AGAIN HELP`` or ``argument PATH VALUE AGAIN``, tab-separated.
VALUE is "" for a flag, else what kind of value it takes: ``file``, ``folder``, ``text``, ``one:a,b`` or one that
``monitor.completion.ask`` knows. AGAIN is "+" for what may be given again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

PLACE = os.path.join(os.path.dirname(__file__), "commands.tsv")


@dataclass(slots=True)
class Option:
    """An option by all of its names, the long ones first."""

    names: tuple[str, ...]
    value: str
    again: bool
    help: str


@dataclass(slots=True)
class Command:
    """A command or a group of them. ``arguments`` are kinds of values, with whether one may be given again."""

    help: str = ""
    options: list[Option] = field(default_factory=list)
    arguments: list[tuple[str, bool]] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


def read(path: str = PLACE) -> dict[str, Command]:
    """All commands by their path: "" is ``gpumon``, "silence add" is what its words say."""
    found: dict[str, Command] = {"": Command()}
    with open(path, encoding="utf-8") as file:
        for line in file:
            kind, place, *cells = line.rstrip("\n").split("\t")
            if kind == "command":
                found[place] = Command(cells[0])
                parent, _, name = place.rpartition(" ")
                found[parent].children.append(name)
            elif kind == "option":
                names, value, again, words = cells
                found[place].options.append(Option(tuple(names.split(",")), value, again == "+", words))
            elif kind == "argument":
                found[place].arguments.append((cells[0], cells[1] == "+"))
    return found
