"""Where in a JSON file something is wrong: reads it, and names file, line and column of what is not as it should be.

``BadFile`` is raised with a whole sentence: ``results/a.json:3:17: …``, and what to do.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from monitor.probes.errors import ProbeError

T = TypeVar("T")

_BLANK = re.compile(r"[ \t\r\n]*")
_PART = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_WHERE = re.compile(r" - at (?:key in )?`\$(.*)`$", re.DOTALL)
_decoder = json.JSONDecoder()


class BadFile(ProbeError):
    """A file that is no result of a probe."""


class Text:
    """The text of one file, and what stands where in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    def bad(self, offset: int, words: str) -> BadFile:
        """An error at an offset."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        return BadFile(f"{self.path}:{line}:{column}: {words}")

    def values(self) -> list[tuple[int, Any]]:
        """The JSON values that stand in the file one after another, each with its offset. Raises ``BadFile``."""
        found: list[tuple[int, Any]] = []
        at = self._skip(0)
        while at < len(self.text):
            try:
                value, end = _decoder.raw_decode(self.text, at)
            except json.JSONDecodeError as error:
                self._malformed(error, bool(found))
            except RecursionError:
                raise self.bad(at, "it is nested too deeply to be a result") from None
            found.append((at, value))
            at = self._skip(end)
        if not found:
            raise self.bad(0, "it is empty; was the disk full when it was written?")
        return found

    def convert(self, value: Any, type: type[T], offset: int, under: str = "") -> T:
        """As ``msgspec.convert``, of a value that stands at ``offset`` and ``under`` (``.gpumon``) there."""
        try:
            return msgspec.convert(value, type)
        except msgspec.ValidationError as error:
            words = str(error)
            where = _WHERE.search(words)
            path = under + (where[1] if where else "")
            said = words[: where.start()] if where else words
            place = f" (at {path.lstrip('.')})" if path else ""
            raise self.bad(self.place(offset, path), f"{said[:1].lower()}{said[1:]}{place}") from None

    def place(self, offset: int, path: str) -> int:
        """The offset of ``.steps[2].name`` in the value at ``offset``; that of what is around it where it is not."""
        at = self._skip(offset)
        for key, index in _PART.findall(path):
            found = self._item(at, int(index) if index.isdigit() else 0) if index else self._member(at, key)
            if found is None:
                return at
            at = found
        return at

    def _skip(self, at: int) -> int:
        blank = _BLANK.match(self.text, at)
        return blank.end() if blank else at

    def _value_ends(self, at: int) -> int:
        return _decoder.raw_decode(self.text, at)[1]

    def _member(self, at: int, key: str) -> int | None:
        if self.text[at : at + 1] != "{":
            return None
        at = self._skip(at + 1)
        while self.text[at] != "}":
            name, end = _decoder.raw_decode(self.text, at)
            at = self._skip(self._skip(end) + 1)
            if name == key:
                return at
            at = self._skip(self._value_ends(at))
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return None

    def _item(self, at: int, index: int) -> int | None:
        if self.text[at : at + 1] != "[":
            return None
        at = self._skip(at + 1)
        while self.text[at] != "]":
            if index == 0:
                return at
            index -= 1
            at = self._skip(self._value_ends(at))
            if self.text[at] == ",":
                at = self._skip(at + 1)
        return None

    def _malformed(self, error: json.JSONDecodeError, later: bool) -> NoReturn:
        cut = not self.text[error.pos :].strip() or error.msg.startswith("Unterminated string")
        if cut:
            raise self.bad(error.pos, "the file ends in the middle; copy it again, or repeat the run") from None
        hint = "; each line is to be a whole result" if later else "; it is to be a result in JSON"
        raise self.bad(error.pos, f"no JSON: {error.msg[:1].lower()}{error.msg[1:]}{hint}") from None


def load(path: Path) -> Text:
    """The file's text. Raises ``BadFile`` where it cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadFile(f"{path}: there is no such file") from None
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None
    try:
        return Text(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise BadFile(f"{path}:{line}:{column}: it is no text in UTF-8, so no result in JSON") from None
