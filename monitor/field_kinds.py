"""The words in which the fields of a YAML file are described: what a value may be, a field, a section, a whole file.

``config_fields`` and ``rules.rule_fields`` describe with them. The readers take names, limits and choices from there;
``field_tables`` makes the reference's tables of them, ``field_schema`` the schemas that editors read: what is said of a
field is said once.

A pattern is a regular expression that Python and JavaScript read alike: anchored with ``^`` and ``$``, ASCII classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from monitor.durations import format_duration

YEAR_MS = 366 * 86_400_000


class Text(msgspec.Struct, frozen=True):
    """A text. One that is ``bare`` may be written as a number or a truth value: it is taken as it is written."""

    noun: str = "text"
    nouns: str = "texts"
    pattern: str = ""
    """What it has to match; "" for any."""
    told: str = ""
    """What is said of one that does not match: what it has to be."""
    bare: bool = True
    whole: tuple[int, int] | None = None
    """Where it is ``bare``: the least and the most of a whole number, which alone may stand there without quotes."""
    filled: bool = False
    """Whether "" is refused."""
    may_be_null: bool = False


class Truth(msgspec.Struct, frozen=True):
    """``true`` or ``false``; YAML's older ``yes``, ``no``, ``on`` and ``off`` are the same."""


class Whole(msgspec.Struct, frozen=True):
    """A whole number from ``least`` to ``most``."""

    least: int
    most: int
    said: str = ""
    """The type's words, where the limits are not worth saying."""


class RuleLimit(msgspec.Struct, frozen=True):
    """A number as rule files take it: any, also negative or hexadecimal, or nothing."""


class Duration(msgspec.Struct, frozen=True):
    """A length of time as Prometheus writes it, with limits in milliseconds. One that ``may_be_null`` counts as left
    out where nothing stands."""

    least: int
    most: int
    bounded: bool = True
    """Whether the limits are worth saying."""
    may_be_null: bool = False

    @property
    def said(self) -> str:
        """The type in words."""
        if not self.bounded:
            return "duration"
        most = "10y" if self.most == 10 * YEAR_MS else format_duration(self.most)
        return f"duration, {format_duration(self.least)} to {most}"


class Size(msgspec.Struct, frozen=True):
    """A number of bytes, ``500MB`` or ``2GiB``, at least ``least``."""

    least: int


class SecretText(msgspec.Struct, frozen=True):
    """A secret: a text, ``{env: NAME}`` or ``{file: PATH}``. The rest is of the text alone, as ``Text`` has it."""

    pattern: str = ""
    told: str = ""
    bare: bool = True


class Choice(msgspec.Struct, frozen=True):
    """One of a few words, each with what it means."""

    words: Mapping[str, str]


class Inside(msgspec.Struct, frozen=True):
    """A mapping that is a section of its own, by the section's key."""

    section: str


class ListOf(msgspec.Struct, frozen=True):
    """A list; ``null`` is an empty one."""

    item: Kind
    least: int = 0
    unique: bool = False


class OneOrMore(msgspec.Struct, frozen=True):
    """One, or a list; ``null`` is an empty list."""

    item: Kind
    least: int = 0
    unique: bool = False


class MapOf(msgspec.Struct, frozen=True):
    """A mapping whose keys are the person's own."""

    value: Kind
    key_pattern: str = ""
    key_told: str = ""
    nullable_values: bool = False


class Either(msgspec.Struct, frozen=True):
    """The one or the other."""

    kinds: tuple[Kind, ...]


Kind: TypeAlias = (
    Text
    | Truth
    | Whole
    | RuleLimit
    | Duration
    | Size
    | SecretText
    | Choice
    | Inside
    | ListOf
    | OneOrMore
    | MapOf
    | Either
)


class _Unsaid:
    def __repr__(self) -> str:
        return "UNSAID"


UNSAID = _Unsaid()


class Field(msgspec.Struct, frozen=True):
    """A field of a section. ``default`` is the value that it has where it is left out, as one would write it;
    ``without`` says in words what holds then, where no value says it."""

    name: str
    kind: Kind
    meaning: str
    """Markdown, without a full stop; no links to parts of a page, which an editor cannot follow."""
    default: object = UNSAID
    without: str = ""
    required: bool = False
    examples: tuple[object, ...] = ()
    """Good values other than the default."""
    type_said: str = ""
    """The type in words, where the kind's own do not say enough."""


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with its fields. ``one_of`` names fields of which exactly one, ``any_of`` of which at least one, has to
    be there."""

    key: str
    about: str
    """What it is, in a sentence or two of Markdown."""
    fields: tuple[Field, ...]
    one_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    may_be_null: bool = True
    """Whether ``null`` is an empty mapping, where none of its fields has to be there."""
    not_here: Mapping[str, Mapping[str, object]] = field(default_factory=dict, compare=False)
    """Names that only a schema has: where the reader takes them as long as they say nothing."""
    also: Mapping[str, object] = field(default_factory=dict, compare=False)
    """What fields alone cannot say, in the words of JSON Schema."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its fields, in order."""
        return tuple(one.name for one in self.fields)

    def __getitem__(self, name: str) -> Field:
        for one in self.fields:
            if one.name == name:
                return one
        raise KeyError(name)

    def limits(self, name: str) -> tuple[int, int]:
        """Least and most of a number or a duration (in milliseconds). Raises ``KeyError``, and ``TypeError`` for a
        field that has no limits."""
        kind = self[name].kind
        if not isinstance(kind, (Whole, Duration)):
            raise TypeError(f"{self.key}.{name} has no limits")
        return kind.least, kind.most

    def least_size(self, name: str) -> int:
        """The least of a size, in bytes."""
        kind = self[name].kind
        if not isinstance(kind, Size):
            raise TypeError(f"{self.key}.{name} is no size")
        return kind.least

    def pattern(self, name: str) -> re.Pattern[str]:
        """What a text has to match as a whole (``fullmatch``): the field, an item of it, or a key of its mapping."""
        kind: Kind = self[name].kind
        while isinstance(kind, (ListOf, OneOrMore)):
            kind = kind.item
        if isinstance(kind, MapOf):
            return re.compile(kind.key_pattern)
        if not isinstance(kind, (Text, SecretText)):
            raise TypeError(f"{self.key}.{name} has no pattern")
        return re.compile(kind.pattern)

    def choices(self, name: str) -> tuple[str, ...]:
        """The words that a field may be."""
        kind = self[name].kind
        if not isinstance(kind, Choice):
            raise TypeError(f"{self.key}.{name} is no choice")
        return tuple(kind.words)


@dataclass(frozen=True, slots=True)
class Book:
    """All sections of a kind of file. ``root`` is the key of the one at its top."""

    title: str
    root: str
    sections: Mapping[str, Section] = field(repr=False)

    def __getitem__(self, key: str) -> Section:
        return self.sections[key]


def book(title: str, *sections: Section) -> Book:
    """A file of these sections; the first is its top. Raises ``ValueError`` where a section is there twice, or one that
    a field names is not there."""
    found = {section.key: section for section in sections}
    if len(found) < len(sections):
        raise ValueError("a section is there twice")
    for section in sections:
        for one in section.fields:
            for key in inside(one.kind):
                if key not in found:
                    raise ValueError(f"{section.key}.{one.name}: there is no section {key}")
    return Book(title, sections[0].key, found)


def inside(kind: Kind) -> Iterator[str]:
    """Keys of the sections that a value of this kind holds."""
    match kind:
        case Inside(section):
            yield section
        case ListOf(item) | OneOrMore(item):
            yield from inside(item)
        case MapOf(value):
            yield from inside(value)
        case Either(kinds):
            for one in kinds:
                yield from inside(one)
        case _:
            pass
