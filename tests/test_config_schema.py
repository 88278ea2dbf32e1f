"""The schemas against the readers: what a reader takes, a schema takes; what is wrong in its form, both refuse.

What only a reader can see is listed in ``UNSEEN``, by what it says then; docs/editors.md has the list in words.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import jsonschema
import pytest
import yaml

from monitor.config import ConfigError, loads
from monitor.config_fields import GPUMON_YAML
from monitor.field_schema import schema
from monitor.rules.rule_fields import RULE_FILE
from monitor.rules.rule_file import read_rules
from tests.config_documents import Documents, good, text
from tests.editor_yaml import editor_value

ROOT = Path(__file__).parent.parent
CONFIG, RULES = "gpumon.yaml", "alerts.yaml"
BOOKS = {CONFIG: GPUMON_YAML, RULES: RULE_FILE}


def _pattern(_: object, pattern: str, value: object, __: object) -> Iterator[jsonschema.ValidationError]:
    """As JavaScript has it: ``$`` is the end, and never before a line break that ends the text."""
    if isinstance(value, str) and not re.search(re.sub(r"\$($|(?=\)))", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern}")


JavaScript = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
VALIDATORS = {name: JavaScript(schema(book)) for name, book in BOOKS.items()}
READERS = {CONFIG: loads, RULES: read_rules}

UNSEEN = {
    "a name that nothing has": r"there is no (receiver|time interval|time zone) ",
    "a thing that is there twice": r"a second time|a second (receiver|server|time interval) called|is repeated",
    "limits of a length of time, and of a size in quotes or with a unit": r"(ms|[smhdwy]|0) is out of range|: at least",
    "a number written as 0x10, 0o17 or 1e3": r'"(0x10|0o17|1e3)"',
    "that there is no day 0": r'"0" is none of days_of_month',
    "a port beyond 65535": r"is not HOST:PORT|is not a URL",
    "an address beyond this machine, where nothing has to be shown": r"loopback",
    "a regular expression or a matcher in its parts": r"is no matcher|a matcher is missing|error parsing regexp",
    "PromQL and templates": r"could not parse expression|a rule needs an expression|template",
    "the order of a range's ends": r"ends before it begins|is not before end_time|has to end so, too",
    "what stands in quotes": r'expected true or false, found "(yes|no|on|off)"|for a limit',
    "all labels beside one": r"stands for every label",
    "a header that says what another field says": r"give either this header",
    "depth": r"routes stand at most",
    "matchers that take every alert": r"every alert would be meant",
    "anchors that are named again": r"aliases are not supported",
}


@lru_cache(1)
def refused(name: str, document: str) -> str:
    """What a reader says to a document; "" where it takes it."""
    try:
        READERS[name](document)
    except ConfigError as error:
        return str(error)
    return ""


def marks(name: str, document: str) -> list[str]:
    """What an editor says to a document: the first of it."""
    return [error.message for error in islice(VALIDATORS[name].iter_errors(editor_value(document)), 1)]


def disagreement(name: str, document: str) -> str:
    """What is wrong where a reader and a schema do not agree; "" where they do, or the schema cannot see it."""
    said, marked = refused(name, document), marks(name, document)
    if marked and not said:
        return f"only the schema refuses {document}: {marked}"
    if said and not marked:
        others = [line for line in said.splitlines() if not any(re.search(one, line) for one in UNSEEN.values())]
        if others:
            return f"only the reader refuses {document}: {others}"
    return ""


@pytest.mark.parametrize("name", BOOKS)
def test_a_schema_is_one(name: str) -> None:
    made = schema(BOOKS[name])
    jsonschema.Draft7Validator.check_schema(made)
    known = jsonschema.Draft7Validator.META_SCHEMA["properties"].keys()
    beyond = {"markdownDescription", "errorMessage", "doNotSuggest"}
    beyond |= {"enumDescriptions", "markdownEnumDescriptions"}

    def look(one: object) -> Iterator[str]:
        if not isinstance(one, dict):
            return
        yield from one.keys() - known - beyond
        for key, value in one.items():
            match key, value:
                case "properties" | "definitions", dict():
                    for child in value.values():
                        yield from look(child)
                case "anyOf" | "oneOf", list():
                    for child in value:
                        yield from look(child)
                case "items" | "additionalProperties" | "propertyNames" | "if" | "then" | "else", _:
                    yield from look(value)

    assert set(look(made)) == set()


@pytest.mark.parametrize("name", BOOKS)
def test_an_editor_has_something_to_say_of_every_field(name: str) -> None:
    made = schema(BOOKS[name])
    definitions = made["definitions"]
    assert isinstance(definitions, dict)
    for section in [made, *definitions.values()]:
        assert section["title"]
        assert section["additionalProperties"] is False
        for field in section["properties"].values():
            assert re.match(r"(?s)([A-Z`]|apprise).*\.", field["description"]), field
            assert "](" not in field["description"]


@pytest.mark.parametrize("name", BOOKS)
def test_every_field_alone_is_taken_by_both(name: str) -> None:
    documents = Documents(BOOKS[name])
    for key, field in documents.fields():
        for value in good(field):
            document = text(documents.having(key, field.name, value))
            assert (refused(name, document), marks(name, document)) == ("", [])


WRONG = (
    *("null", "true", "5", "-1", "1.5", '""', "nonsense", "[]", "{}", "[x]", "[1]", "{x: 1}", "[[]]", "[{}]", "[null]"),
    *("5m", "0", "4 h", "500MB", "'5'", "yes", "'yes'", "OFF", "1_000", "0x10", "0o17", "017", "1e3", ".inf", ".nan"),
    *("2026-01-01", "22:00", "1:30", "~", "{env: X}", "{file: X}", "{env: X, file: Y}", "{env: }", "http://x", "x=y"),
    *("http://x/y", "a://b", "|\n  x\n", "!!str 5", "[a, a]", "{a: null}", "{a: 1, b: [2]}", "monday:friday", "31:40"),
)


@pytest.mark.parametrize("name", BOOKS)
def test_whatever_stands_in_a_field_both_say_the_same(name: str) -> None:
    documents = Documents(BOOKS[name])
    found = []
    refusals = 0
    kinds: set[str] = set()
    # A field that several sections have is the same in all of them.
    for key, field in {(one.name, repr(one.kind)): (key, one) for key, one in documents.fields()}.values():
        values = WRONG[:18] if repr(field.kind) in kinds else WRONG
        kinds.add(repr(field.kind))
        document = text(documents.having(key, field.name, "PLACE"))
        before, _, after = document.partition('"PLACE"')
        for value in values:
            if "\n" in value and after:
                continue
            one = f"{before}{value}{after}"
            found.append(disagreement(name, one))
            refusals += bool(refused(name, one))
    assert [one for one in found if one] == []
    assert refusals > len(found) / 3


@pytest.mark.parametrize("name", BOOKS)
def test_what_has_to_be_there_and_what_must_not_is_known_to_both(name: str) -> None:
    documents = Documents(BOOKS[name])
    for section in BOOKS[name].sections.values():
        if section.key == "secret":
            continue
        smallest = documents.smallest(section.key)
        wrong: list[object] = [{**smallest, "another": 1}, "nonsense", [smallest], 5, True]
        wrong += [{k: v for k, v in smallest.items() if k != name} for name in smallest]
        if section.one_of:
            wrong.append({one: good(section[one])[0] for one in section.one_of})
        for content in wrong:
            document = text(documents.holding(section.key, content))
            assert disagreement(name, document) == ""
            if content in wrong[:1] or (isinstance(content, dict) and len(content) < len(smallest)):
                assert bool(refused(name, document)) == bool(marks(name, document)), document
        assert marks(name, text(documents.holding(section.key, wrong[0])))


def strings_of_tests() -> list[tuple[str, str]]:
    """Texts that stand in tests and are configurations or rule files, good and bad, with the name of their kind."""
    found: dict[str, str] = {}
    names = GPUMON_YAML["gpumon.yaml"].names
    likely = re.compile(rf"(?m)^\W*({'|'.join(names)}|groups)\W?:")
    for path in {*(ROOT / "tests").rglob("*.py")} - {Path(__file__)}:
        source = path.read_text(encoding="utf-8")
        if not re.search(rf"\b({'|'.join(names)}|groups)\W?:", source):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or not likely.search(node.value):
                continue
            try:
                value = editor_value(node.value)
            except (yaml.YAMLError, ValueError, TypeError, RecursionError):
                continue
            if isinstance(value, dict) and value.keys() & {"groups"}:
                found[node.value] = RULES
            elif isinstance(value, dict) and value.keys() & {*names}:
                found[node.value] = CONFIG
    return [(name, one) for one, name in found.items()]


def test_configurations_and_rule_files_in_tests_are_judged_alike() -> None:
    found = strings_of_tests()
    good_ones = [one for one in found if not refused(*one)]
    assert len(good_ones) > 100
    assert len(found) - len(good_ones) > 50
    assert [said for one in found if (said := disagreement(*one))] == []


def test_examples_in_the_documentation_are_judged_alike() -> None:
    found: list[tuple[Path, str]] = []
    for path in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    ]:
        for indent, example in re.findall(r"(?ms)^( *)```yaml\n(.*?)^\1```", path.read_text(encoding="utf-8")):
            found.append((path, "\n".join(line.removeprefix(indent) for line in example.splitlines())))
    names = set(GPUMON_YAML["gpumon.yaml"].names)
    seen = 0
    for path, example in found:
        value = editor_value(example)
        if not isinstance(value, dict):
            continue
        if value.keys() == {"groups"} or (value.keys() & names and not value.keys() & OF_OTHERS):
            name = RULES if "groups" in value else CONFIG
            assert (refused(name, example), marks(name, example)) == ("", []), path
            seen += 1
    assert seen


OF_OTHERS = {"scrape_configs", "apiVersion", "global", "remote_write", "kind"}
"""What a file has that is somebody else's: Prometheus', Alertmanager's, Kubernetes'."""


def test_files_of_examples_and_tests_and_the_shipped_rules_are_valid() -> None:
    found: list[tuple[str, Path]] = []
    for path in [ROOT / "alerts.yaml", *(ROOT / "examples").rglob("*.y*ml"), *(ROOT / "tests").rglob("*.y*ml")]:
        if path.name == "gpumon.yaml":
            found.append((CONFIG, path))
            continue
        try:
            value = editor_value(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            continue  # several documents, or none on purpose
        if isinstance(value, dict) and value.keys() == {"groups"}:
            found.append((RULES, path))
    assert {(name, path.name) for name, path in found} >= {(RULES, "alerts.yaml"), (CONFIG, "gpumon.yaml")}
    assert [(path, said) for name, path in found if (said := marks(name, path.read_text(encoding="utf-8")))] == []


ODD = {
    # as it stands after `sources: {vllm: {discover: …}}`: whether the reader takes it, whether an editor does
    "sources: {vllm: {discover: yes}}": (True, True),
    "sources: {vllm: {discover: Off}}": (True, True),
    "sources: {vllm: {discover: 'yes'}}": (False, True),  # an editor does not see quotes
    "sources: {vllm: {discover: 'true'}}": (False, False),
    "sources: {vllm: {discover: y}}": (False, False),
    "sources: {vllm: {discover: 1}}": (False, False),
    "sources: {vllm: {discover: !!bool 'true'}}": (True, True),
    "probes: {keep: 1_000}": (True, True),
    "probes: {keep: '1000'}": (True, True),
    "probes: {keep: 1e3}": (True, True),
    "probes: {keep: 1000.0}": (True, True),
    "probes: {keep: 0100}": (True, True),  # a hundred, not 64
    "probes: {keep: 0x64}": (False, True),
    "probes: {keep: 0o144}": (False, True),
    "probes: {keep: 1:40}": (False, False),  # YAML 1.1 has 100 in base 60
    "probes: {keep: .inf}": (False, False),
    "history: {max_size: 0x40000000}": (False, True),
    "history: {max_size: 1_000_000_000}": (False, False),
    "history: {max_size: 1000000000}": (False, True),  # ten digits
    "history: {retention: 2026-01-01}": (False, False),
    "history: {retention: 7D}": (False, False),
    "history: {retention: 1d12h}": (True, True),
    "history: {retention: 12h1d}": (False, False),
    "history: {retention: 30m}": (False, True),  # less than its least
    "history: ": (True, True),
    "history: ~": (True, True),
    "history: {enabled: }": (False, False),
    "node: {job: 2026-01-01}": (True, True),
    "node: {job: 5}": (True, True),
    "node: {job: no}": (True, True),
    "node: {job: ~}": (False, False),
    "node: {job: [a]}": (False, False),
    "api: {listen: ~}": (True, True),
    "api: {listen: off}": (True, True),
    "api: {listen: false}": (False, False),
    "api: {listen: 9519}": (False, False),
    "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 09:00, end_time: 24:00}]}]}]": (True, True),
    "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 9:00, end_time: 24:00}]}]}]": (False, False),
    "time_intervals: [{name: a, time_intervals: [{times: [{start_time: 10:00, end_time: 09:00}]}]}]": (False, True),
    "time_intervals: [{name: a, time_intervals: [{weekdays: Monday:FRIDAY}]}]": (True, True),
    "time_intervals: [{name: a, time_intervals: [{days_of_month: [1, -1, '1:7', 08]}]}]": (True, True),
    "alerting: {external_labels: {on: yes, 5: 6}}": (False, False),
    "alerting: {external_labels: {on: yes, y: 1.50}}": (True, True),
    "{node: &n {job: a}}": (True, True),
    "node: &n {job: a}\nhistory: *n": (False, False),
    "node: {job: a}\nnode: {job: b}": (False, True),
    "node: {<<: {job: a}}": (False, False),
    "node: {'job': !!str 5}": (True, True),
    "receivers: [{name: a, apprise: 'json://x', rate_limit: 20}]\nroute: {receiver: a, matchers: [], continue: no}": (
        True,
        True,
    ),
    "": (True, True),
    "---\n...\n": (True, True),
    "[]": (False, False),
    "nonsense": (False, False),
}


@pytest.mark.parametrize("document", ODD)
def test_odd_values(document: str) -> None:
    taken = (refused(CONFIG, document) == "", marks(CONFIG, document) == [])
    assert taken == ODD[document], (refused(CONFIG, document), marks(CONFIG, document))


def changed(value: object) -> Iterator[object]:
    """A value with one thing in it changed: each in turn left out, renamed, put in a list, or made nothing."""
    if isinstance(value, dict):
        for key, one in value.items():
            rest = {name: other for name, other in value.items() if name != key}
            yield rest
            yield {**rest, f"{key}x": one}
            yield {**value, key: [one]}
            yield {**value, key: None}
            for other in changed(one):
                yield {**value, key: other}
    elif isinstance(value, list):
        yield [*value, None]
        for index, one in enumerate(value):
            for other in changed(one):
                yield [*value[:index], other, *value[index + 1 :]]


def test_a_good_file_with_one_mistake_is_judged_alike() -> None:
    wrong = 0
    found = []
    for name, document in ((CONFIG, WHOLE), (RULES, WHOLE_RULES)):
        assert (refused(name, document), marks(name, document)) == ("", [])
        for one in changed(editor_value(document)):
            changes = json.dumps(one)
            found.append(disagreement(name, changes))
            wrong += bool(refused(name, changes))
    assert [one for one in found if one] == []
    assert wrong > 200


WHOLE = """
node: {hostname: n1, job: gpus, instance: "n1:9000"}
history: {retention: 30d}
api: {socket: /tmp/x.sock, listen: "127.0.0.1:9000", token: {env: X}}
sources:
  nvml: {interval: 500ms}
  host: {model_caches: [models]}
  vllm:
    servers:
      - http://127.0.0.1:8000
      - {url: "https://other:8443", gpus: ["0", GPU-1], log: {file: v.log}, canary: {still: 1m}}
    targets: {ttft: {p95: 3s}}
alerting: {external_labels: {a: b}, alertmanagers: ["http://am:9093", {url: "http://am2"}]}
receivers:
  - {name: ops, apprise: [{env: SLACK}, "json://localhost:1/"]}
  - {name: hook, webhook: {url: {file: hook}, headers: {X: a}}, pages: true}
route:
  receiver: ops
  group_by: [alertname]
  routes:
    - {matchers: ['a="b"'], receiver: [ops, hook], continue: true, mute_time_intervals: [w]}
inhibit_rules: [{source_matchers: ['a="b"'], target_matchers: 'c="d"', equal: [e]}]
time_intervals:
  - {name: w, time_intervals: [{weekdays: [sunday], times: [{start_time: "00:00", end_time: "24:00"}], months: "1:3"}]}
heartbeat: {env: BEAT}
"""
WHOLE_RULES = """
groups:
  - name: g
    interval: 30s
    limit: 10
    labels: {a: b}
    rules:
      - {alert: A, expr: up == 0, for: 1m, keep_firing_for: 5m, labels: {s: w}, annotations: {summary: x}}
      - {record: "a:b", expr: up, labels: {c: d}}
"""
