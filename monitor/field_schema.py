"""JSON Schemas of a file's fields, for editors: they complete names and values, say what a field means, and mark what
the daemon would refuse.

Draft 7, which yaml-language-server (VS Code, Neovim, Helix), JetBrains' IDEs and the schema store take. What a schema
takes and a reader refuses, or the other way round, is told in docs/editors.md
and tried in tests/test_config_schema.py.

Some keywords are not of the draft, and passed over by who does not know them: ``markdownDescription``,
``enumDescriptions``, ``markdownEnumDescriptions``, ``errorMessage`` and ``doNotSuggest``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

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
)
from monitor.field_tables import default_words, type_words

Schema: TypeAlias = dict[str, object]

DRAFT = "http://json-schema.org/draft-07/schema#"

_UNITS = "".join(f"([0-9]+{unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms"))
_LENGTH = f"^(?=[0-9]){_UNITS}$"
_LENGTH_OR_0 = f"^(0|(?=[0-9]){_UNITS})$"
_SIZE = r"^[0-9]{1,9}(\.[0-9]{1,3})? ?([kKMGT]i?)?B?$"
# What PyYAML takes for a truth value, and YAML 1.2 for a text.
_OLDER_TRUTH = "^(yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$"
_NUMBER_IN_QUOTES = "^[-+]?[0-9][0-9_.eE+]*$"
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def to_json(book: Book) -> str:
    """The schema of a file, as text."""
    return msgspec.json.format(msgspec.json.encode(schema(book)), indent=2).decode() + "\n"


def schema(book: Book) -> Schema:
    """The schema of a file. Its sections are its definitions, by their keys."""
    definitions = {
        section.key: _section(section, book) for section in book.sections.values() if section.key != book.root
    }
    return {"$schema": DRAFT, **_section(book[book.root], book), "title": book.title, "definitions": definitions}


def _section(section: Section, book: Book) -> Schema:
    required = [field.name for field in section.fields if field.required]
    made: Schema = {"title": section.key, **_texts(section.about)}
    made["type"] = ["object", "null"] if _nullable(section) else "object"
    made["properties"] = {**{field.name: _field(field, book) for field in section.fields}, **section.not_here}
    made["additionalProperties"] = False
    if required:
        made["required"] = required
    if section.one_of:
        made["oneOf"] = _required(section.one_of, f"Give either {' or '.join(section.one_of)}.")
    if section.any_of:
        made["anyOf"] = _required(section.any_of, f"Give {' or '.join(section.any_of)}.")
    return {**made, **section.also}


def _required(names: Sequence[str], told: str) -> list[Schema]:
    return [{"required": [name], "errorMessage": told} for name in names]


def _nullable(section: Section) -> bool:
    needs = section.one_of or section.any_of or any(field.required for field in section.fields)
    return section.may_be_null and not needs


def _field(field: Field, book: Book) -> Schema:
    words = f"{field.meaning[:1].upper()}{field.meaning[1:]}."
    default = default_words(field)
    kind = type_words(field)
    facts = [] if isinstance(field.kind, Inside) else [f"{kind[:1].upper()}{kind[1:]}."]
    if field.required:
        facts.append("Required.")
    elif default:
        facts.append(f"Without it: {default}.")
    made = {**_texts("\n\n".join([words, *([" ".join(facts)] if facts else [])])), **_kind(field.kind, book)}
    if field.default is not UNSAID:
        made["default"] = field.default
    if field.examples:
        made["examples"] = list(field.examples)
    return made


def _texts(markdown: str) -> Schema:
    plain = _LINK.sub(r"\1", markdown)
    return {"description": plain.replace("*", ""), "markdownDescription": plain}


def _kind(kind: Kind, book: Book) -> Schema:
    match kind:
        case Text():
            return _text(kind)
        case Truth():
            return {
                "type": ["boolean", "string"],
                "pattern": _OLDER_TRUTH,
                "errorMessage": "Expected true or false.",
            }
        case Whole(least, most):
            return {
                "type": ["integer", "string"],
                "minimum": least,
                "maximum": most,
                "pattern": _NUMBER_IN_QUOTES,
                "errorMessage": f"Expected a whole number, {least} to {most}.",
            }
        case RuleLimit():
            return {"type": ["number", "string", "null"], "pattern": _NUMBER_IN_QUOTES}
        case Duration():
            return _duration(kind)
        case Size(least):
            return {
                "type": ["string", "integer"],
                "minimum": least,
                "pattern": _SIZE,
                "errorMessage": "Expected a size such as 500MB or 2GiB.",
            }
        case Choice(words):
            return {
                "type": "string",
                "enum": list(words),
                "enumDescriptions": list(words.values()),
                "markdownEnumDescriptions": list(words.values()),
            }
        case Inside(section):
            return {"$ref": f"#/definitions/{section}"}
        case MapOf():
            return _map(kind, book)
        case _:
            return _any_of(_alternatives(kind, book))


def _text(kind: Text) -> Schema:
    types = ["string"]
    if kind.bare:
        types += ["integer"] if kind.whole else ["number", "boolean"]
    if kind.may_be_null:
        types.append("null")
    made: Schema = {"type": types if len(types) > 1 else "string"}
    if kind.filled:
        made["minLength"] = 1
    if kind.pattern:
        made |= {"pattern": kind.pattern, "errorMessage": f"Expected {kind.told}."}
    if kind.whole:
        made |= {"minimum": kind.whole[0], "maximum": kind.whole[1]}
    return made


def _duration(kind: Duration) -> Schema:
    told = f"Expected a duration such as 30s or 5m{kind.said.removeprefix('duration')}."
    text: Schema = {"type": ["string", "null"] if kind.may_be_null else "string", "errorMessage": told}
    if kind.least:
        return {**text, "pattern": _LENGTH}
    return {"anyOf": [{**text, "pattern": _LENGTH_OR_0}, {"const": 0, "errorMessage": told}]}


def _map(kind: MapOf, book: Book) -> Schema:
    value = _kind(kind.value, book)
    if kind.nullable_values:
        types = value["type"]
        value["type"] = [*(types if isinstance(types, list) else [types]), "null"]
    made: Schema = {"type": ["object", "null"], "additionalProperties": value}
    if kind.key_pattern:
        made["propertyNames"] = {
            "pattern": kind.key_pattern,
            "errorMessage": f"Expected {kind.key_told}.",
        }
    return made


def _any_of(alternatives: list[Schema]) -> Schema:
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def _alternatives(kind: Kind, book: Book) -> list[Schema]:
    match kind:
        case SecretText(pattern, told, bare):
            text = Text(pattern=pattern, told=told, bare=bare, filled=True)
            return [_text(text), {"$ref": "#/definitions/secret"}]
        case ListOf(item, least, unique):
            return [_list(item, least, unique, book)]
        case OneOrMore(item, least, unique):
            listed = _list(item, least, unique, book)
            listed["type"] = "array"
            alone = _alternatives(item, book)
            return [*alone, listed] if least else [*alone, listed, {"type": "null"}]
        case Either(kinds):
            return [one for part in kinds for one in _alternatives(part, book)]
        case _:
            return [_kind(kind, book)]


def _list(item: Kind, least: int, unique: bool, book: Book) -> Schema:
    made: Schema = {"type": "array" if least else ["array", "null"], "items": _kind(item, book)}
    if least:
        made["minItems"] = least
    if unique:
        made["uniqueItems"] = True
    return made
