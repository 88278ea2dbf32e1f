"""The runbooks: a page of Markdown for each shipped alert, where they are, and what they are made of.

They stand in ``docs/runbooks`` of the tree and travel inside the package, so that a node without internet has them. The
Markdown is a small part of it, which this module reads: headings, paragraphs, lists, blocks of commands, and inside of
these `code`, **strong** and [links](to). A page is read when somebody asks for it; nothing of it is kept.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_ITEM = re.compile(r"(?:-|(\d+)\.) +")
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^()\s]+)\)")

Style: TypeAlias = Literal["plain", "code", "strong", "link"]


class Piece(msgspec.Struct, frozen=True):
    """A part of a text that looks alike."""

    style: Style
    text: str
    target: str = ""
    """Of a link: another runbook's name where it is one, else the address as it was written."""

    @property
    def runbook(self) -> str:
        """The name of the runbook that it leads to, "" for none."""
        return self.target if self.style == "link" and _NAME.fullmatch(self.target) else ""


class Block(msgspec.Struct, frozen=True):
    """A heading, a paragraph, an item of a list, or lines of code."""

    kind: Literal["title", "heading", "paragraph", "item", "code"]
    pieces: tuple[Piece, ...] = ()
    lines: tuple[str, ...] = ()
    """Of code alone, each as it is to be typed."""
    number: str = ""
    """Of an item of a numbered list."""

    @property
    def text(self) -> str:
        """Its words without marks."""
        return "\n".join(self.lines) if self.kind == "code" else "".join(piece.text for piece in self.pieces)


def folder() -> Path | None:
    """Where the pages are: inside the package where it was installed from a wheel, else in the tree's docs. None where
    they are in neither place."""
    inside = Path(str(importlib.resources.files("monitor"))) / "data" / "runbooks"
    beside = Path(__file__).resolve().parents[1] / "docs" / "runbooks"
    return next((path for path in (inside, beside) if path.is_dir()), None)


def names() -> list[str]:
    """The alerts that have a runbook, in alphabetical order."""
    where = folder()
    return sorted(path.stem for path in where.glob("*.md")) if where is not None else []


def find(name: str) -> str | None:
    """The runbook that is meant by a name, in whatever case that is written; None where there is none."""
    known = {one.lower(): one for one in names()}
    return known.get(name.lower())


def nearest(name: str) -> str | None:
    """The runbook whose name is most like this one, None where none is."""
    from difflib import get_close_matches

    known = {one.lower(): one for one in names()}
    found = get_close_matches(name.lower()[:80], known, 1, 0.5)
    return known[found[0]] if found else None


def text_of(name: str) -> str | None:
    """The Markdown of a runbook; None where there is none of exactly this name."""
    where = folder()
    if where is None or not _NAME.fullmatch(name):
        return None
    try:
        return (where / f"{name}.md").read_text(encoding="utf-8")
    except OSError:
        return None


def is_shipped(name: str) -> bool:
    """Whether there is a runbook of exactly this name."""
    where = folder()
    return where is not None and bool(_NAME.fullmatch(name)) and (where / f"{name}.md").is_file()


def lead(text: str) -> tuple[str, str]:
    """The gravest severity that a page names, and its first sentence: what a list of pages says of each."""
    paragraphs = [block.text for block in blocks(text) if block.kind == "paragraph"][:2]
    terms, said = [*paragraphs, "", ""][:2]
    severity = next((one for one in ("critical", "warning", "none") if one in terms), "")
    return severity, re.split(r"(?<=[.:])\s", said, maxsplit=1)[0].rstrip(".:")


def blocks(text: str) -> list[Block]:
    """What a page is made of."""
    found: list[Block] = []
    for lines in _parts(text.splitlines()):
        first = lines[0]
        if first.startswith("    "):
            found.append(Block("code", lines=tuple(line[4:] for line in lines)))
        elif first.startswith("# "):
            found.append(Block("title", pieces(first[2:])))
        elif first.startswith("## "):
            found.append(Block("heading", pieces(first[3:])))
        else:
            item = _ITEM.match(first)
            rest = " ".join(line.strip() for line in (first[item.end() :] if item else first, *lines[1:]))
            kind: Literal["item", "paragraph"] = "item" if item else "paragraph"
            found.append(Block(kind, pieces(rest), number=(item[1] or "") if item else ""))
    return found


def _parts(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that belong together."""
    part: list[str] = []
    for line in lines:
        code = line.startswith("    ") and (not part or part[0].startswith("    "))
        begins = line.startswith("#") or _ITEM.match(line) or (code and not part)
        ends = part and (part[0].startswith("#") or (part[0].startswith("    ") and not code))
        if part and (not line.strip() or begins or ends):
            yield part
            part = []
        if line.strip():
            part.append(line)
    if part:
        yield part


def pieces(text: str) -> tuple[Piece, ...]:
    """A text by how its parts look."""
    found: list[Piece] = []
    at = 0
    for mark in _INLINE.finditer(text):
        if mark.start() > at:
            found.append(Piece("plain", text[at : mark.start()]))
        code, strong, words, target = mark.groups()
        if code is not None:
            found.append(Piece("code", code))
        elif strong is not None:
            found.append(Piece("strong", strong))
        else:
            own = target.removesuffix(".md")
            found.append(Piece("link", words.strip("`"), own if _NAME.fullmatch(own) else target))
        at = mark.end()
    if at < len(text):
        found.append(Piece("plain", text[at:]))
    return tuple(found)
