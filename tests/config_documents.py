"""Small good documents of a described file, made from its description: one for each section and each field."""

from __future__ import annotations

import json
from collections.abc import Iterator

from monitor.field_kinds import Book, Duration, Either, Field, Kind, ListOf, OneOrMore, Truth, inside

Document = dict[str, object]

OTHERS: Document = {
    "receivers": [
        {"name": "chat", "apprise": "json://chat"},
        {"name": "pager", "webhook": "https://pager.example.com"},
    ],
    "time_intervals": [{"name": "weekend", "time_intervals": [{"weekdays": ["saturday", "sunday"]}]}],
}
"""What a route's examples name."""
ALSO: dict[str, Document] = {"rule": {"alert": "A"}, "group": {"rules": [{"alert": "A", "expr": "x"}]}}
"""What a section needs beside its required fields."""


class Documents:
    """Documents of a file."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._above: dict[str, tuple[str, Field]] = {}
        waiting = [book.root]
        for key in waiting:
            for field in book[key].fields:
                for other in inside(field.kind):
                    if other != book.root and other not in self._above:
                        self._above[other] = (key, field)
                        waiting.append(other)

    def fields(self) -> Iterator[tuple[str, Field]]:
        """Every field, with the key of its section. Secrets' parts are no section of a document's own."""
        for key, section in self.book.sections.items():
            if key != "secret":
                for field in section.fields:
                    yield key, field

    def smallest(self, key: str) -> Document:
        """What a section has at the least."""
        section = self.book[key]
        named = [*(field.name for field in section.fields if field.required), *section.one_of[:1], *section.any_of[:1]]
        return {name: good(section[name])[0] for name in named} | ALSO.get(key, {})

    def holding(self, key: str, content: object) -> object:
        """A document around the content of a section, good where the content is."""
        while key != self.book.root:
            key, field = self._above[key]
            content = self.smallest(key) | {field.name: wrapped(field.kind, content)}
        if isinstance(content, dict) and "reports" in content:
            content = {"route": {"receiver": "chat"}, **content}
        return {**OTHERS, **content} if isinstance(content, dict) and "route" in content else content

    def having(self, key: str, name: str, value: object) -> object:
        """A document in which a field of a section has a value."""
        content = self.smallest(key)
        if (key, name) == ("rule", "record"):
            del content["alert"]
        if name in self.book[key].one_of:
            content.clear()
        if name == "listen" and str(value).startswith("0.0.0.0"):  # noqa: S104 - the example, bound by nobody
            content["token"] = "t"
        return self.holding(key, content | {name: value})


def wrapped(kind: Kind, content: object) -> object:
    """The content of a section as a field holds it."""
    return [content] if isinstance(kind, (ListOf, OneOrMore)) else content


def good(field: Field) -> list[object]:
    """Values of a field that are good and not its default."""
    if field.examples:
        return list(field.examples)
    kinds = field.kind.kinds if isinstance(field.kind, Either) else (field.kind,)
    if isinstance(kinds[0], Truth):
        return [field.default is not True]
    if isinstance(kinds[0], Duration):
        return ["7s"]
    assert any(inside(field.kind)), f"{field.name} has no example"
    return []


def text(document: object) -> str:
    """A document as YAML, every text of it in quotes."""
    return json.dumps(document, ensure_ascii=False)
