"""``gpumon runbook``: what to do about an alert, printed.

The JSON of one is {"schema": 1, "name", "severity", "what", "path", "markdown"}, of all of them
{"schema": 1, "runbooks": [{"name", "severity", "what", "path"}…]}.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable

import click

from monitor import runbooks
from monitor.client.format import cut, wants_color
from monitor.commands.for_programs import json_text
from monitor.runbooks import Block, Piece

SCHEMA = 1
_WIDEST = 100
_COLORS = {"critical": "red", "warning": "yellow"}


def run(name: str | None, *, as_json: bool) -> int:
    """Print one, or the list; 0, or 1 where there is none."""
    known = runbooks.names()
    if not known:
        click.echo("gpumon runbook: the runbooks are missing: install gpumon again", err=True)
        return 1
    if name is None:
        rows = [_row(one) for one in known]
        click.echo(_json({"runbooks": rows}) if as_json else _listed(rows, _width()), color=wants_color())
        return 0
    found = runbooks.find(name)
    if found is None:
        near = runbooks.nearest(name)
        hint = f"; do you mean {near}?" if near is not None else "; `gpumon runbook` lists them"
        shown = cut(name, 60)
        click.echo(f"gpumon runbook: no shipped alert has the name {shown}{hint}", err=True)
        return 1
    text = runbooks.text_of(found) or ""
    if as_json:
        click.echo(_json({**_row(found), "markdown": text}))
    else:
        click.echo(render(text, _width()), nl=False, color=wants_color())
    return 0


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns) if sys.stdout.isatty() else _WIDEST


def _row(name: str) -> dict[str, str]:
    severity, what = runbooks.lead(runbooks.text_of(name) or "")
    where = runbooks.folder()
    return {"name": name, "severity": severity, "what": what, "path": str(where / f"{name}.md") if where else ""}


def _json(values: dict[str, object]) -> str:
    return json_text({"schema": SCHEMA, **values}, indent=2)


def _listed(rows: Iterable[dict[str, str]], width: int) -> str:
    rows = list(rows)
    wide = max(len(row["name"]) for row in rows)
    lines = []
    for row in rows:
        line = cut(f"{row['name']:{wide}}  {row['severity']:8}  {row['what']}", width).rstrip()
        lines.append(line)
    return "\n".join(lines)


def render(text: str, width: int) -> str:
    """A page for a terminal. Commands stand alone on their lines and are never broken."""
    lines: list[str] = []
    before = ""
    for block in runbooks.blocks(text):
        if lines and not (block.kind == before == "item"):
            lines.append("")
        lines += _block(block, width)
        before = block.kind
    return "\n".join(lines) + "\n"


def _block(block: Block, width: int) -> list[str]:
    if block.kind == "code":
        return [click.style(f"    {line}", fg="cyan") for line in block.lines]
    if block.kind in ("title", "heading"):
        return [click.style(block.text, bold=True, underline=block.kind == "title")]
    mark = f"{block.number}. " if block.number else "- " if block.kind == "item" else ""
    broken = textwrap.wrap(
        block.text, width - len(mark), break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    lines = _styled(broken, block.pieces)
    return [(mark if not number else " " * len(mark)) + line for number, line in enumerate(lines)]


def _styled(broken: list[str], pieces: Iterable[Piece]) -> list[str]:
    """Lines of a text with the looks of its pieces: both have the same characters, but for blanks at line ends."""
    looks: list[tuple[str, Callable[[str], str]]] = [
        (char, _look(piece)) for piece in pieces for char in piece.text if not char.isspace()
    ]
    lines, at = [], 0
    for line in broken:
        shown, run = "", ""
        look: Callable[[str], str] = _same
        for char in line:
            if not char.isspace():
                one, at = looks[at][1], at + 1
                if one is not look:
                    words = run.rstrip(" ")
                    shown, run, look = shown + look(words) + run[len(words) :], "", one
            run += char
        lines.append(shown + look(run))
    return lines


def _same(text: str) -> str:
    return text


def _strong(text: str) -> str:
    return click.style(text, bold=True) if text else text


def _critical(text: str) -> str:
    return click.style(text, fg=_COLORS["critical"], bold=True) if text else text


def _warning(text: str) -> str:
    return click.style(text, fg=_COLORS["warning"], bold=True) if text else text


def _code(text: str) -> str:
    return click.style(text, fg="cyan") if text else text


def _look(piece: Piece) -> Callable[[str], str]:
    if piece.style == "strong":
        return {"critical": _critical, "warning": _warning}.get(piece.text, _strong)
    return _code if piece.style == "code" else _same
