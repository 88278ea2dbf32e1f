"""The manual: ``gpumon.1``, and a page for each command with what stands below it. In the man macros."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from monitor import __version__
from monitor.commands.exit_codes import EXIT_CODES
from tests.docs.tree import Node, meaning, signature

DATE = "2026-11-22"
"""Of the release that the pages describe."""


def pages(top: Node) -> dict[str, str]:
    """Each page's text by its file's name."""
    return {"gpumon.1": _top(top)} | {f"gpumon-{one.path[0]}.1": _page(top, one) for one in top.children}


def _top(top: Node) -> str:
    lines = [*_title("gpumon"), *_name("gpumon", "monitor, alert on and probe a GPU node that serves models with vLLM")]
    lines += [".SH SYNOPSIS", ".B gpumon", _text("[OPTIONS] COMMAND [ARGS]..."), ".SH DESCRIPTION", *_help(top)]
    lines.append(".SH COMMANDS")
    for one in top.children:
        lines += [".TP", rf"\fBgpumon\-{_text(one.path[0])}\fR(1)", _text(one.short + ".")]
    lines += [".SH OPTIONS", *_options(top, top.options())]
    lines += [".SH ENVIRONMENT"]
    for name, text in _ENVIRONMENT:
        lines += [".TP", rf"\fB{_text(name)}\fR", _text(text)]
    lines += [".SH FILES"]
    for name, text in _FILES:
        lines += [".TP", rf"\fI{_text(name)}\fR", _text(text)]
    lines += [*_exit_status(), ".SH SEE ALSO"]
    lines.append(",\n".join(rf"\fBgpumon\-{_text(one.path[0])}\fR(1)" for one in top.children))
    return "\n".join(lines) + "\n"


_ENVIRONMENT = (
    ("GPUMON_URL", "The daemon or the Prometheus that commands ask, where --url names none."),
    ("GPUMON_TOKEN", "The token that it wants; GPUMON_PASSWORD is the password of --user."),
    ("GPUMON_LOG_FORMAT", "How the daemon logs: auto, text, json or journal."),
    ("NO_COLOR", "No colours."),
)
_FILES = (
    ("/etc/gpumon/gpumon.yaml", "The service's configuration."),
    ("/run/gpumon/gpumon.sock", "The service's socket."),
    ("/var/lib/gpumon", "Its state: history, alerts, silences, results of probes."),
    ("~/.config/gpumon/nodes.yaml", "A fleet's nodes, for gpumon tui."),
)


def _page(top: Node, node: Node) -> str:
    name = f"gpumon-{node.path[0]}"
    short = node.short[:1].lower() + node.short[1:] if node.short[1:2].islower() else node.short
    lines = [*_title(name), *_name(name, short), ".SH SYNOPSIS"]
    leaves = [one for one in node.walk() if not one.children]
    for number, one in enumerate(leaves):
        lines += [
            *([".br"] if number else []),
            rf"\fB{_text(one.name)}\fR {_text(one.usage().removeprefix(one.name).strip())}",
        ]
    lines += [".SH DESCRIPTION", *_help(node)]
    if not node.children:
        lines += [".SH OPTIONS", *_options(node, node.options())]
    else:
        lines.append(".SH COMMANDS")
        for one in leaves:
            lines += [rf".SS {_text(one.name)}", *_help(one), *_options(one, one.options())]
    lines += [*_exit_status(), ".SH SEE ALSO", r"\fBgpumon\fR(1)"]
    return "\n".join(lines) + "\n"


def _title(name: str) -> list[str]:
    return [
        r".\" Made from the code by `python3 -m tests.docs.reference`.",
        rf'.TH {_text(name.upper())} 1 {DATE} "gpumon {__version__}" "gpumon"',
    ]


def _name(name: str, short: str) -> list[str]:
    return [".SH NAME", rf"{_text(name)} \- {_text(short)}"]


def _exit_status() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, text in EXIT_CODES.items():
        lines += [".TP", rf"\fB{code}\fR", _text(text.replace("`", ""))]
    return lines


def _help(node: Node) -> list[str]:
    lines: list[str] = []
    for number, (text, kept) in enumerate(node.paragraphs()):
        if kept:
            lines += [".PP", ".nf", ".RS 4", *map(_text, text.splitlines()), ".RE", ".fi"]
        else:
            lines += [*([".PP"] if number else []), _marked(text)]
    return lines


def _options(node: Node, options: Iterable[click.Option]) -> list[str]:
    lines = []
    for option in options:
        lines += [
            ".TP",
            rf"\fB{_text(signature(node, option))}\fR",
            _marked(meaning(node, option)) or _text("See above."),
        ]
    return lines


def _marked(text: str) -> str:
    """Running text, with what stands in backticks in bold."""
    parts = re.split(r"`([^`]*)`", text)
    return _first("".join(rf"\fB{_escaped(part)}\fR" if n % 2 else _escaped(part) for n, part in enumerate(parts)))


def _text(text: str) -> str:
    return _first(_escaped(text))


def _escaped(text: str) -> str:
    text = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha").replace("~", r"\(ti")
    )
    return text.replace("…", r"\&...").replace("–", r"\(en").replace("×", r"\(mu").replace("`", r"\(ga")


def _first(text: str) -> str:
    """No text may begin with what troff takes for a request."""
    return rf"\&{text}" if text[:1] in (".", "'") else text
