"""Go templates in labels and annotations of rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from monitor.rules.go_format import MOST_CHARACTERS
from monitor.rules.template_functions import FUNCTIONS, CallError
from monitor.rules.templates import Context, Sample, Template, TemplateError
from tests.fuzz.target import Broken, Target, text_of

_CASES = Path(__file__).resolve().parents[2] / "rules" / "promtool_templates.json"
_LABELS = {"__name__": "x", "foo": "bar", "host": "a.b:9519", "n": "12"}
_SAMPLES = [Sample({"__name__": "y", "case": "2"}, 1234567.0), Sample({"__name__": "y", "case": "10"}, 0.5)]


def _query(text: str) -> Sequence[Sample]:
    if text == "fails":
        raise CallError("query fails")
    return _SAMPLES if text == "y" else []


def run(data: bytes) -> None:
    """Read and expand it: text within bounds, or Go's error."""
    text = text_of(data)
    try:
        template = Template.parse(text)
        out = template.expand(_LABELS, 12.5, Context(_query, 1_700_000_000_500, "http://n:9519/"), {"site": "north"})
    except TemplateError:
        return
    if len(out) > max(MOST_CHARACTERS, len(text)):
        raise Broken(f"{len(out)} characters of text")
    for inside in ("<function", "object at 0x", "<class", "monitor."):
        if inside in out and inside not in text:
            raise Broken(f"something of Python's: {out[:200]!r}")


def seeds() -> Iterable[bytes]:
    """What promtool was asked, and shipped annotations."""

    def texts(found: object) -> Iterable[str]:
        if isinstance(found, str):
            if "{{" in found:
                yield found
        elif isinstance(found, dict):
            for one in found.values():
                yield from texts(one)
        elif isinstance(found, list):
            for one in found:
                yield from texts(one)

    for text in list(texts(json.loads(_CASES.read_text())))[::3]:
        yield text.encode()
    yield b'{{ range $i, $s := query "y" | sortByLabel "case" }}{{ $i }}={{ .Value }}{{ else }}-{{ end }}'
    yield b'{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}'
    yield b'{{ printf "%*d %[2]v %-08.3f" 5 3 $value }}{{ with $x := 1 }}{{ $x = 2 }}{{ end }}'
    yield b"{{ (toTime $value).Unix }}{{ .Labels.foo | len | humanize }}{{/* c */}}{{- 1 -}}"


TARGET = Target(
    what="templates of labels and annotations",
    promise="bounded text; nothing of Python's in it",
    modules=(
        "monitor.rules.templates", "monitor.rules.template_lex", "monitor.rules.template_parse",
        "monitor.rules.template_functions", "monitor.rules.template_kinds", "monitor.rules.template_methods",
        "monitor.rules.template_numbers", "monitor.rules.template_texts", "monitor.rules.template_regex",
        "monitor.rules.go_printf", "monitor.rules.go_format", "monitor.rules.go_time",
    ),
    run=run,
    seeds=seeds,
    words=("{{", "}}", "{{-", "-}}", "range ", "else", "end", "with ", "define ", "template ", "block ", "if ", "$value",
           "$labels", ".Labels", "printf ", '"%', ":=", "break", "continue", "query ", "| ", *FUNCTIONS),
    longest=400,
)  # fmt: skip
