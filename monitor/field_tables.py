"""Tables in Markdown of the fields that a section has, for docs/configuration.md and `gpumon config reference`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from monitor.field_kinds import (
    UNSAID,
    Book,
    Choice,
    Duration,
    Either,
    Field,
    Inside,
    Kind,
    ListOf,
    MapOf,
    OneOrMore,
    RuleLimit,
    SecretText,
    Section,
    Size,
    Text,
    Truth,
    Whole,
    inside,
)

_BLOCK = re.compile(r"^<!-- fields: ([^\n]+) -->\n.*?^<!-- end -->$", re.M | re.S)
_HEADING = re.compile(r"^#+ (.*)$", re.M)


def table(section: Section, headings: Mapping[str, str] | None = None) -> str:
    """The table of a section. ``headings`` has those of the page that tell of other sections, by their keys: a field
    that holds one of them links to it."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in section.fields:
        kind = type_words(field) + (", *required*" if field.required else "")
        meaning = field.meaning
        links = [headings[key] for key in inside(field.kind) if key in headings] if headings else []
        if links:
            meaning += ": " + ", ".join(f"[{heading}](#{anchor(heading)})" for heading in dict.fromkeys(links))
        cells = (f"`{field.name}`", kind, default_words(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells).replace("|  |", "| |") + " |")
    return "\n".join(rows)


def fill(page: str, book: Book) -> str:
    """A page with a new table between each ``<!-- fields: KEY … -->`` and ``<!-- end -->``: of the first key's section;
    what is said of the others stands there, too. Raises ``KeyError`` for a key that is no section's."""
    headings: dict[str, str] = {}
    for block in _BLOCK.finditer(page):
        above = _HEADING.findall(page[: block.start()])
        headings |= dict.fromkeys(block[1].split(), above[-1] if above else "")

    def filled(block: re.Match[str]) -> str:
        own = block[1].split()
        others = {key: heading for key, heading in headings.items() if key not in own}
        return f"<!-- fields: {block[1]} -->\n{table(book[own[0]], others)}\n<!-- end -->"

    return _BLOCK.sub(filled, page)


def told_of(page: str) -> list[str]:
    """Keys of the sections that a page has a table of."""
    return [key for block in _BLOCK.finditer(page) for key in block[1].split()]


def anchor(heading: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def default_words(field: Field) -> str:
    """What holds where the field is left out."""
    return field.without if field.default is UNSAID else f"`{as_yaml(field.default)}`"


def as_yaml(value: object) -> str:
    """A value as one would write it in one line: ``true``, ``2s``, ``{p95: 2s}``."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key}: {as_yaml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(as_yaml(one) for one in value) + "]"
        case _:
            return str(value)


def type_words(field: Field) -> str:
    """The field's type in words, as the page's beginning explains them."""
    return field.type_said or _words(field.kind)


def _words(kind: Kind) -> str:
    match kind:
        case Text(noun=noun):
            return noun
        case Truth():
            return "true or false"
        case Whole(least, most, said):
            return said or f"whole number, {least} to {most}"
        case RuleLimit():
            return "number"
        case Duration():
            return kind.said
        case Size(least):
            return f"size, at least {least >> 20}MiB"
        case SecretText():
            return "secret"
        case Choice(choices):
            return " or ".join(f"`{word}`" for word in choices)
        case Inside():
            return "mapping"
        case ListOf(item):
            return f"list{_of(item)}"
        case OneOrMore(item):
            return f"one or a list{_of(item)}"
        case MapOf(value):
            return f"mapping{_of(value)}"
        case Either(kinds):
            words = [_words(one) for one in kinds]
            return ("true, false" if words[0] == "true or false" else words[0]) + f" or {words[-1]}"


def _of(kind: Kind) -> str:
    if isinstance(kind, Text):
        return f" of {kind.nouns}"
    return " of secrets" if isinstance(kind, SecretText) else ""
