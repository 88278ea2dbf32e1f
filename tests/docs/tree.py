"""The command line as a tree: what the reference, the manual pages and the completions are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import click

from monitor.cli import cli

RULES: tuple[tuple[str, str, str], ...] = (
    # Pattern of the command's path, pattern of "name metavar", kind of value. The first that fits counts.
    (r"notify test", r"receiver ", "receiver"),
    (r"report", r"receiver ", "receiver"),
    (r"silence add", r"matchers ", "matcher"),
    (r"silence expire", r"idents ", "silence"),
    (r"runbook", r"name ", "runbook"),
    (r"probe compare", r"(before|after) ", "run-or-folder"),
    (r"probe report", r"run ", "run-or-folder"),
    (r"probe \w+", r"runs? ", "run"),
    (r"probe .*|plan", r"server SERVER|server NAME", "server"),
    (r"query", r"expr ", "metric"),
    (r"export", r"selectors ", "metric"),
    (r"plan", r"gpu GPU", "gpus"),
    (r"plan", r"model MODEL", "file"),
    (r"daemon|demo", r"hardware ", "hardware"),
    (r".*", r".* (FILE|OLD|PATH)…?", "file"),
    (r".*", r".* DIR", "folder"),
)


@dataclass(frozen=True)
class Node:
    """A command or a group, with how one comes to it."""

    path: tuple[str, ...]
    command: click.Command
    context: click.Context
    """What click needs to write its usage and help."""
    children: tuple[Node, ...] = field(default=())

    @property
    def name(self) -> str:
        """All of its words: ``gpumon silence add``."""
        return " ".join(("gpumon", *self.path))

    @property
    def short(self) -> str:
        """The first sentence of its help, whole, as plain text."""
        text = inspect.cleandoc(self.command.help or "")
        first = text.split("\n\n")[0].replace("\n", " ")
        return plain(re.split(r"(?<=[a-z0-9)`])\. |\.$", first)[0])

    def options(self) -> list[click.Option]:
        """Those that are shown, ``--help`` last."""
        self.command._help_option = None  # click's, kept from whoever ran the command first, by itself perhaps
        params = self.command.get_params(self.context)
        return [one for one in params if isinstance(one, click.Option) and not one.hidden]

    def arguments(self) -> list[click.Argument]:
        """What stands without a name."""
        return [one for one in self.command.params if isinstance(one, click.Argument)]

    def usage(self) -> str:
        """How it is typed, on one line, without the names of options."""
        pieces = " ".join(self.command.collect_usage_pieces(self.context))
        return re.sub(r"\s+", " ", f"{self.name} {pieces}").strip()

    def paragraphs(self) -> list[tuple[str, bool]]:
        """Its help by paragraphs, each with whether its lines are to stay as they are."""
        found = []
        for part in inspect.cleandoc(self.command.help or "").split("\n\n"):
            kept = part.startswith("\b")
            found.append((part.removeprefix("\b").strip("\n") if kept else " ".join(part.split()), kept))
        return found

    def walk(self) -> Iterator[Node]:
        """This and all below, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


@cache
def tree() -> Node:
    """The whole command line."""
    return _node((), cli, _top())


def _top() -> click.Context:
    return click.Context(cli, info_name="gpumon", **cli.context_settings)


def _node(path: tuple[str, ...], command: click.Command, context: click.Context) -> Node:
    children = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            if not child.hidden:
                children.append(_node((*path, name), child, click.Context(child, info_name=name, parent=context)))
    return Node(path, command, context, tuple(children))


def signature(node: Node, option: click.Option) -> str:
    """Its names and what it takes: ``-d, --for DURATION``."""
    record = option.get_help_record(node.context)
    assert record is not None
    return record[0]


def meaning(node: Node, option: click.Option) -> str:
    """Its help, with its default and its range, as ``--help`` has them."""
    record = option.get_help_record(node.context)
    assert record is not None
    return re.sub(r"\s+", " ", record[1]).strip()


def plain(text: str) -> str:
    """Help as it stands in the code, without its marks, on one line."""
    return re.sub(r"\s+", " ", text.replace("`", "").replace("\b", "")).strip()


def kind_of(node: Node, param: click.Parameter) -> str:
    """What kind of value it takes, for completion; "" for a flag."""
    if isinstance(param, click.Option) and (param.is_flag or param.count):
        return ""
    if isinstance(param.type, click.Choice):
        return "one:" + ",".join(map(str, param.type.choices))
    words = f"{param.name} {param.make_metavar(node.context)}".replace("[", "").replace("]", "").replace("...", "")
    for path, pattern, kind in RULES:
        whole = re.match(pattern, words) if pattern.endswith(" ") else re.fullmatch(pattern, words)
        if whole and re.fullmatch(path, " ".join(node.path)):
            return _known(kind)
    if isinstance(param.type, click.Path | click.File):
        return "file"
    return "text"


def _known(kind: str) -> str:
    if kind == "gpus":
        from monitor.planning.gpus import _MIB

        return "one:" + ",".join(name.replace(" ", "-") for name in sorted(_MIB))
    if kind == "hardware":
        from monitor.sources.hardware import _BOARDS

        return "one:" + ",".join(f"8x{name}" for name in sorted(_BOARDS))
    return kind
