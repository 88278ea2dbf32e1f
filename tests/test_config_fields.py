"""What is said of a field is what the reader does: defaults, limits, choices, examples, what has to be there."""

from __future__ import annotations

import pytest

from monitor.config import Config, ConfigError, loads
from monitor.config_fields import GPUMON_YAML
from monitor.durations import format_duration
from monitor.field_kinds import UNSAID, Book, Choice, Duration, Field, Inside, Section, Size, Text, Whole, book
from monitor.rules.rule_fields import RULE_FILE
from monitor.rules.rule_file import RuleSet, read_rules
from tests.config_documents import Documents, good, text

FILES = {"gpumon.yaml": Documents(GPUMON_YAML), "rules": Documents(RULE_FILE)}
FIELDS = [(file, key, field) for file, documents in FILES.items() for key, field in documents.fields()]
LIMITED = (Whole, Duration, Size, Choice, Text)


def each(*fields: tuple[str, str, Field]) -> pytest.MarkDecorator:
    params = [pytest.param(*one, id=f"{one[1]}.{one[2].name}") for one in fields]
    return pytest.mark.parametrize(("file", "key", "field"), params)


def read(file: str, document: object) -> Config | RuleSet:
    return loads(text(document)) if file == "gpumon.yaml" else read_rules(text(document))


def refusal(file: str, document: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(file, document)
    return str(caught.value)


@each(*(one for one in FIELDS if one[2].default is not UNSAID))
def test_its_default_is_what_holds_without_it(file: str, key: str, field: Field) -> None:
    documents = FILES[file]
    without = documents.holding(key, documents.smallest(key))
    assert read(file, documents.having(key, field.name, field.default)) == read(file, without)


@each(*FIELDS)
def test_its_examples_are_good_and_say_something(file: str, key: str, field: Field) -> None:
    documents = FILES[file]
    found = [read(file, documents.having(key, field.name, value)) for value in good(field)]
    if not found or field.required or field.name in documents.smallest(key):
        return
    without = documents.holding(key, documents.smallest(key))
    if (key, field.name) != ("inhibit_rules", "name"):  # which is for people
        assert [one for one in found if one != read(file, without)]


@each(*(one for one in FIELDS if isinstance(one[2].kind, LIMITED) and one[2].name not in ("alert", "record")))
def test_its_limits_are_those_of_the_reader(file: str, key: str, field: Field) -> None:
    documents = FILES[file]
    taken: list[object] = []
    refused: list[object] = []
    match field.kind:
        case Whole(least, most):
            taken, refused = [least, most], [least - 1, most + 1]
        case Duration(least, most, may_be_null=False):
            taken = [format_duration(least), format_duration(most)]
            refused = [format_duration(most + 1), *([format_duration(least - 1)] if least else [])]
        case Size(least):
            taken, refused = [least], [least - 1]
        case Choice(words):
            taken, refused = list(words), ["another"]
        case Text(may_be_null=True):
            taken = [None]
        case Text():
            refused = [None]
    for value in taken:
        read(file, documents.having(key, field.name, value))
    for value in refused:
        said = refusal(file, documents.having(key, field.name, value))
        assert "out of range" in said or "none of" in said or "found nothing" in said or "must" in said, said


@pytest.mark.parametrize(
    ("file", "section"),
    [pytest.param(file, one, id=f"{file}:{one.key}") for file, d in FILES.items() for one in d.book.sections.values()],
)
def test_what_has_to_be_there(file: str, section: Section) -> None:
    documents = FILES[file]
    if section.key == "secret":
        return
    smallest = documents.smallest(section.key)
    read(file, documents.holding(section.key, smallest))
    for name in [*(one.name for one in section.fields if one.required), *section.one_of[:1], *section.any_of[:1]]:
        assert refusal(file, documents.holding(section.key, {k: v for k, v in smallest.items() if k != name}))
    if section.one_of:
        both = {name: good(section[name])[0] for name in section.one_of}
        assert refusal(file, documents.holding(section.key, both))
    said = refusal(file, documents.holding(section.key, smallest | {"another": 1}))
    assert "unknown field" in said or "none of the percentiles" in said


def test_a_file_names_only_sections_that_it_has() -> None:
    holds = Section("a", "", (Field("b", Inside("c"), ""),))
    with pytest.raises(ValueError, match=r"a\.b: there is no section c"):
        book("x", holds)
    with pytest.raises(ValueError, match="twice"):
        book("x", holds, holds)


def test_what_a_field_has_not_is_not_given() -> None:
    section = GPUMON_YAML["history"]
    with pytest.raises(TypeError, match=r"history\.enabled has no limits"):
        section.limits("enabled")
    with pytest.raises(TypeError, match="is no size"):
        section.least_size("enabled")
    with pytest.raises(TypeError, match="has no pattern"):
        section.pattern("enabled")
    with pytest.raises(TypeError, match="is no choice"):
        section.choices("enabled")
    with pytest.raises(KeyError):
        section["another"]


def _all(files: dict[str, Documents]) -> list[Book]:
    return [documents.book for documents in files.values()]


def test_every_meaning_is_one_sentence_without_its_stop() -> None:
    for one in (field for file in _all(FILES) for section in file.sections.values() for field in section.fields):
        assert one.meaning
        assert not one.meaning.endswith("."), one.meaning
        assert "](#" not in one.meaning, "an editor follows no link within a page"
