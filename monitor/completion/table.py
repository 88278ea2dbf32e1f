"""The commands, their options and arguments, as ``commands.tsv`` beside this file has them. It is made from the click
tree by ``python -m tests.docs.reference``, and a test keeps it current: reading it takes a millisecond, the click tree
with the workloads of probes a hundred times as long.

A line is ``command PATH HELP``, ``option PATH NAMES VALUE AGAIN HELP`` or ``argument PATH VALUE AGAIN``, tab-separated.
VALUE is "" for a flag, else what kind of value it takes: ``file``, ``folder``, ``text``, ``one:a,b`` or one that
``monitor.completion.ask`` knows. AGAIN is "+" for what may be given again.

No dataclasses here: importing those takes longer than all the rest.
"""

from __future__ import annotations

import os

PLACE = os.path.join(os.path.dirname(__file__), "commands.tsv")


class Option:
    """An option by all of its names, the long ones first."""

    __slots__ = ("again", "help", "names", "value")

    def __init__(self, names: tuple[str, ...], value: str, again: bool, help: str) -> None:
        self.names = names
        self.value = value
        self.again = again
        self.help = help


class Command:
    """A command or a group of them. ``arguments`` are kinds of values, with whether one may be given again."""

    __slots__ = ("arguments", "children", "help", "options")

    def __init__(self, help: str = "") -> None:
        self.help = help
        self.options: list[Option] = []
        self.arguments: list[tuple[str, bool]] = []
        self.children: list[str] = []


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
