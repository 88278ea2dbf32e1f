"""Templates. What is expected in ``PROMTOOL`` and in ``promtool_templates.json`` is what promtool 3.5 gave for the same
text and value; ``tests/live/test_promtool_alerts.py`` asks it again.

Left out of the file are the few where we differ: addresses of Go's memory, ``Date``, ``Clock`` and ``ISOWeek`` of a
time (of no use in Go either), complex numbers, ``\\p`` in regular expressions, and the functions that are newer than
promtool 3.5: ``now``, ``toDuration``, ``urlQueryEscape``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import vector
from monitor.promql.plan import plan
from monitor.rules.go_format import FormatError
from monitor.rules.go_printf import sprintf
from monitor.rules.go_time import Duration, TimeError, duration_of
from monitor.rules.template_functions import CallError
from monitor.rules.template_parse import _DEEPEST
from monitor.rules.templates import Context, Sample, Template, TemplateError
from monitor.samples import make_labels
from monitor.store.head import Head

LABELS = {"__name__": "x", "foo": "bar", "host": "a.b:9519"}
SAMPLES = [Sample({"__name__": "y", "case": "2"}, 1234567.0), Sample({"__name__": "y", "case": "10"}, 0.5)]


def query(text: str) -> Sequence[Sample]:
    return SAMPLES if text == "y" else []


def expand(text: str, value: float = 1.0) -> str:
    context = Context(query, 1_700_000_000_500, "http://node:9519/pre")
    return Template.parse(text).expand(LABELS, value, context, {"site": "north"})


PROMTOOL = [
    ("{{ $value }}", 1234567.0, "1.234567e+06"),
    ("{{ $value }}", 123456.0, "123456"),
    ("{{ $value }}", 1e-7, "1e-07"),
    ("{{ $value }}", 1e20, "1e+20"),
    ("{{ 1.0 }} {{ 100000.0 }} {{ 1e6 }} {{ 123456789.0 }} {{ 0.1 }}", 1, "1 100000 1e+06 1.23456789e+08 0.1"),
    (
        '{{ printf "%v %g %s %d %q %5.1f|%-8s|%+d|%05d|%x|%t|%e|%.3e|%6.2f%%" $value $value $value $value $value $value'
        ' "ab" 3 42 255 true $value $value $value}}',
        0.00001234,
        "1.234e-05 1.234e-05 %!s(float64=1.234e-05) %!d(float64=1.234e-05) %!q(float64=1.234e-05)   0.0|ab      |+3|"
        "00042|ff|true|1.234000e-05|1.234e-05|  0.00%",
    ),
    ("{{ $labels.nope }}|{{ $labels.foo }}|{{ .Labels.foo | toUpper }}", 1, "|bar|BAR"),
    (
        '{{ 5 | humanize }} {{ "5000" | humanize }} {{ 100000 | humanizeTimestamp }} {{ humanizeDuration $value }}',
        93784.5,
        "5 5k 1970-01-02 03:46:40 +0000 UTC 1d 2h 3m 4s",
    ),
    (
        '{{ printf "%s" }}{{ printf "a" 1 2 }}{{ printf "%z" 1 }}{{printf "%"}}',
        1,
        "%!s(MISSING)a%!(EXTRA int=1, int=2)%!z(int=1)%!(NOVERB)",
    ),
    ('{{ print 1 2 "a" "b" 3.0 }} {{ println 1 "x" }}', 1, "1 2ab3 1 x\n"),
    (
        '{{ title "hello-world foo_bar" }} {{ stripPort $labels.host }} {{ stripDomain $labels.host }} '
        '{{ reReplaceAll "(.)a" "<$1>${1}" $labels.foo }}',
        1,
        "Hello-World Foo_bar a.b a:9519 <b>br",
    ),
    ("{{ $labels }}", 1, "map[__name__:x foo:bar host:a.b:9519]"),
    (
        '{{ len $labels.foo }} {{ index $labels "foo" }} {{ slice "abcdef" 1 3 }} {{ eq 1 2 1 }} {{ and 1 0 }} '
        '{{ or 0 "x" }} {{ not 1 }}',
        1,
        "3 bar bc true 0 x false",
    ),
    ('{{ 5 | humanize | title | printf "%s-%s" "a" }}', 1, "a-5"),
    ("{{ toTime $value }}", 1000.5, "1970-01-01 00:16:40.5 +0000 UTC"),
    (
        '{{ tableLink "up > 1" }} {{ graphLink "up" }} {{ urlquery "a b&c" }} {{ html "<a>" }} {{ js "\'a\'" }} '
        '{{ parseDuration "1m30s" }}',
        1,
        "/graph?g0.expr=up+%3E+1&g0.tab=1 /graph?g0.expr=up&g0.tab=0 a+b%26c &lt;a&gt; \\'a\\' 90",
    ),
    ("{{ if $value }}y{{ else if 1 }}z{{ else }}n{{ end }}", 0, "z"),
    ("{{ args 1 2 }} {{ (args 1 2).arg1 }} {{ (args 1 2).arg5 }}", 0, "map[arg0:1 arg1:2] 2 <no value>"),
    (
        "{{ humanizePercentage $value }} {{ humanize1024 $value }} {{ humanize $value }}",
        0.01234567,
        "1.235% 0.01235 12.35m",
    ),
    (
        '{{ printf "%[2]d %[1]d" 1 2 }} {{ printf "%*d" 5 1 }} '
        '{{ printf "%6d|%-6d|% d|%#x|%08.3f|%+.2f|%c|%U" 1 2 3 255 3.14159 2.5 65 65 }}',
        1,
        "2 1     1      1|2     | 3|0xff|0003.142|+2.50|A|U+0041",
    ),
    ('{{- /* c */ -}}  a {{- " b " -}} c  {{/* d */}}x', 1, "a b c  x"),
    ("{{ $x := 5 }}{{ $x }}{{ if true }}{{ $x = 6 }}{{ $x := 7 }}{{ $x }}{{ end }}{{ $x }}", 1, "576"),
    (
        "{{ if and (gt $value 1.5) (lt $value 3.0) }}mid{{ else if ge $value 3.0 }}high{{ else }}low{{ end }}",
        2,
        "mid",
    ),
    (
        '{{ define "x" }}[{{ . }}]{{ end }}{{ template "x" $value }}{{ block "y" 3 }}<{{ . }}>{{ end }}',
        2.5,
        "[2.5]<3>",
    ),
    ("{{ with $labels.nope }}a{{ else }}b{{ end }}{{ with $x := 3 }}{{ $x }}{{ end }}", 1, "b3"),
    (
        "{{ `raw\\n` }} {{ \"q\\tq\\u00e9\\x41\" }} {{ 'a' }} {{ 0x1F }} {{ 1e3 }} {{ 1_000 }} {{ -5 }} {{ .5 }}",
        1,
        "raw\\n q\tqéA 97 31 1000 1000 -5 0.5",
    ),
    (
        "{{ humanize 0.0 }} {{ humanize -1234567.0 }} {{ humanize 0.000123 }} {{ humanize 1e30 }} "
        "{{ humanize1024 1048576.0 }} {{ humanizeDuration 0.0123 }} {{ humanizeDuration 59.9 }} "
        "{{ humanizeDuration 3600 }} {{ humanizeDuration -90.5 }} {{ humanizePercentage 0.5 }} "
        "{{ humanizeTimestamp 1435065584.128 }}",
        1,
        "0 -1.235M 123u 1e+06Y 1Mi 12.3ms 59.9s 1h 0m 0s -1m 30s 50% 2015-06-23 13:19:44.128 +0000 UTC",
    ),
    (
        '{{ match "a.c" "xabcx" }} {{ stripPort "1.2.3.4:80" }} {{ stripPort "noport" }} {{ stripDomain "1.2.3.4:80" }}'
        ' {{ stripDomain "x.y.z" }}',
        1,
        "true 1.2.3.4 noport 1.2.3.4:80 x",
    ),
    ('{{ reReplaceAll "(?P<n>a)(b)" "${n}-$2-$9" "xabx" }}', 1, "xa-b-x"),
    ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", 1, "__name__=x;foo=bar;host=a.b:9519;"),
    ("{{ range 3 }}{{ . }}{{ end }}", 1, "012"),
    ('{{ if not (eq $labels.foo "x") -}}  t  {{- end }}', 1, "t"),
    ('{{ printf "%5t|%-5t|%05s|%5q|%+q|%#q" true false "ab" "a" "b" "ef" }}', 1, ' true|false|000ab|  "a"|"b"|`ef`'),
    ('{{ printf "%3c|%-3c|%03d|%+d" 65 66 -7 -8 }}', 1, "  A|B  |-07|-8"),
]


@pytest.mark.parametrize(("text", "value", "expected"), PROMTOOL)
def test_a_template_gives_what_promtool_gives(text: str, value: float, expected: str) -> None:
    assert expand(text, float(value)) == expected


ANSWERS: list[tuple[str, str]] = [
    (text, answer)
    for text, answer in json.loads(Path(__file__).with_name("promtool_templates.json").read_text(encoding="utf-8"))
]
"""Templates with what promtool made of them; ``!`` stands for ``PREFIX``."""
PREFIX = "<error expanding template: error executing template __alert_A: template: __alert_A:"
SERIES = {'x{foo="bar",host="a.b:9519"}': 1.0, 'y{case="2"}': 1234567.0, 'y{case="10"}': 0.5}


def asked(text: str) -> Sequence[Sample]:
    """``query`` over ``SERIES``."""
    head = Head("j", "i")
    head.append(make_labels("x", foo="bar", host="a.b:9519"), 0, 1.0)
    head.append(make_labels("y", case="2"), 0, 1234567.0)
    head.append(make_labels("y", case="10"), 0, 0.5)
    try:
        return [Sample(dict(labels), value) for labels, value in vector(plan(text), head, 0)]
    except PromQLError as error:
        raise CallError(str(error)) from error


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_a_template_gives_what_promtool_gave_or_fails_as_it_did(text: str, answer: str) -> None:
    context = Context(asked, 0, "http://node:9519/pre", "__alert_A")
    try:
        given = Template.parse(text).expand(LABELS, 1.0, context, {"site": "north"})
    except TemplateError as error:
        given = f"<error expanding template: {error.message}>"
    assert given == (PREFIX + answer[1:] if answer.startswith("!") else answer)


def test_queries_can_be_reached() -> None:
    assert expand('{{ query "y" | first | value | humanize }}') == "1.235M"
    assert expand('{{ with query "y" }}{{ (index . 1).Value }} {{ . | first | label "case" }}{{ end }}') == "0.5 2"
    assert (
        expand('{{ range $i, $s := query "y" | sortByLabel "case" }}{{ $i }}:{{ $s.Labels.case }} {{ end }}')
        == "0:10 1:2 "
    )
    assert expand('{{ range query "none" }}x{{ else }}nothing{{ end }}') == "nothing"
    assert expand('{{ range query "y" }}{{ if eq .Labels.case "10" }}{{ break }}{{ end }}{{ .Value }}{{ end }}') == (
        "1.234567e+06"
    )


def test_what_is_given_besides_labels() -> None:
    assert expand("{{ $externalLabels.site }} {{ externalURL }} {{ pathPrefix }} {{ now }}") == (
        "north http://node:9519/pre /pre 1.7000000005e+09"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ gt $value 5 }}", "incompatible types for comparison: float64 and int"),
        ("{{ .Foo }}", "can't evaluate field Foo"),
        ("{{ $labels.foo.x }}", "can't evaluate field x in type string"),
        ('{{ first (query "none") }}', "first() called on vector with no elements"),
        ("{{ $labels.foo | humanize }}", 'parsing "bar": invalid syntax'),
        ("{{ toUpper 5 }}", "expected string; found 5"),
        ('{{ slice "abc" 5 }}', "index out of range"),
        ("{{ 5 | $value }}", "can't give argument to non-function $value"),
        ('{{ template "none" }}', 'template "none" not defined'),
        ('{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}', "exceeded maximum template depth (50)"),
        ("{{ humanizeTimestamp 1e30 }}", "cannot be represented as a nanoseconds timestamp"),
        ('{{ reReplaceAll "(" "" "x" }}', "error calling reReplaceAll"),
    ],
)
def test_an_expansion_that_fails_says_why(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        expand(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("abc {{ $x }}", 7, 'undefined variable "$x"'),
        ("abc {{ nope 1 }}", 7, 'function "nope" not defined'),
        ("{{ if $value }}x", 3, "has no {{end}}"),
        ("{{ $value ", 0, "unclosed action"),
        ('{{ "abc }}', 3, "unterminated quoted string"),
        ("x{{ end }}", 4, "unexpected {{end}}"),
        ("{{ }}", 2, "missing value for command"),
        ("{{ 1 | 2 }}", 7, "non executable command in pipeline stage 2"),
        ("{{ break }}", 3, "outside {{range}}"),
        ("{{ ($value }}", 3, "unclosed left paren"),
        ("{{/* x }}", 0, "unclosed comment"),
        ("{{ with $y := 1 }}{{ end }}{{ $y }}", 30, 'undefined variable "$y"'),
        ("a\nb{{ if }}", 8, "missing value for if"),
        ("{{ template }}", 3, 'unexpected "}}" in template clause'),
        ("{{ template x }}", 12, 'unexpected "x" in template clause'),
        ('{{ "a".x }}', 3, 'unexpected . after term "\\"a\\""'),
        ("{{ 1x }}", 3, 'bad number syntax: "1x"'),
        ("{{ $value ! }}", 10, 'unexpected "!" in operand'),
        ("{{ @ }}", 3, 'unexpected "@" in command'),
        ("{{ else }}", 3, "unexpected {{else}}"),
        ("{{ 'ab' }}", 3, "malformed character constant: 'ab'"),
        ("{{ end 3 }}", 7, 'unexpected "3" in end'),
        ("{{ range 1 }}{{ continue 3 }}{{ end }}", 25, 'unexpected "3" in {{continue}}'),
        ("{{ range 1 }}{{ else range 2 }}{{ end }}", 21, "unexpected <range> in else"),
        ("{{ $a, $b := 3 }}", 5, "too many declarations in command"),
        ("{{ , }}", 3, 'unexpected "," in command'),
        ("{{ | 1 }}", 3, 'unexpected "|" in command'),
        ("{{ 1 := 2 }}", 5, 'unexpected ":=" in operand'),
        ("{{ ) }}", 3, "unexpected right paren"),
        ("{{ range$labels }}{{ end }}", 8, "bad character U+0024 '$'"),
        ("{{ ..Labels }}", 3, 'unexpected . after term "."'),
        ("{{ 0_ }}", 3, 'illegal number syntax: "0_"'),
        ('{{ "\\\'" }}', 3, "invalid syntax"),
        ("{{ 1e999 }}", 3, 'illegal number syntax: "1e999"'),
        ("{{ 1e }}", 3, 'illegal number syntax: "1e"'),
        ("{{ 99999999999999999999 }}", 3, 'integer overflow: "99999999999999999999"'),
        ("{{ if 1 ) }}{{ end }}", 8, "unexpected right paren"),
        ("{{ if 1 }}{{ end ) }}", 17, "unexpected right paren"),
        ("{{ range 1 }}{{ end }}{{ break }}", 25, "outside {{range}}"),
        ("{{ range $a, $b, $c := 3 }}{{ end }}", 15, "too many declarations in command"),
        ('{{ print 1"a" }}', 10, 'unexpected "\\"a\\"" in operand'),
        ('{{ "\\ud800" }}', 3, "invalid syntax"),
        ('{{ "\\U00110000" }}', 3, "invalid syntax"),
        ("{{ $x := | }}", 9, 'unexpected "|" in command'),
        ("{{ if", 0, "unclosed action"),
    ],
)
def test_a_template_that_cannot_be_read_says_where(text: str, position: int, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse(text)
    assert message in caught.value.message
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    [
        "{{ .__class__ }}",
        "{{ $labels.__class__.__mro__ }}",
        "{{ .Labels.keys.x }}",
        '{{ (query "y" | first).__class__ }}',
        "{{ $value.real }}",
        '{{ (print "x").upper }}',
    ],
)
def test_no_python_attribute_is_within_reach(text: str) -> None:
    with pytest.raises(TemplateError):
        expand(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ range 300 }}{{ range 300 }}{{ range 300 }}{{ end }}{{ end }}{{ end }}",
        '{{ $x := "aaaaaaaaaaaaaaaa" }}{{ range 30 }}{{ $x = print $x $x }}{{ end }}',
        '{{ range 10000 }}{{ print "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }}{{ end }}',
        '{{ printf "%999999999d" 1 }}',
        "{{ range 99999999999 }}{{ end }}",
    ],
)
def test_output_and_steps_are_bounded(text: str) -> None:
    with pytest.raises(TemplateError):
        expand(text)


def test_a_deep_template_is_refused_and_does_not_recurse_to_the_end() -> None:
    with pytest.raises(TemplateError, match="deep"):
        Template.parse("{{ if 1 }}" * 5_000 + "{{ end }}" * 5_000)
    with pytest.raises(TemplateError, match="deep"):
        Template.parse("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}")
    assert expand("{{ if 1 }}a{{ end }}" * 500) == "a" * 500, "one behind the other is not deep"


def test_the_deepest_that_is_taken() -> None:
    assert expand("{{ if 1 }}" * (_DEEPEST - 1) + "x" + "{{ end }}" * (_DEEPEST - 1)) == "x"
    with pytest.raises(TemplateError, match="deep"):
        Template.parse("{{ if 1 }}" * _DEEPEST + "{{ end }}" * _DEEPEST)
    assert expand("{{ if 0 }}" + "{{ else if 0 }}" * (_DEEPEST - 2) + "{{ end }}") == ""
    with pytest.raises(TemplateError, match="deep"):
        Template.parse("{{ if 0 }}" + "{{ else if 0 }}" * _DEEPEST + "{{ end }}")


def test_a_width_is_taken_up_to_a_thousand() -> None:
    assert len(sprintf("%1000d", [1])) == 1000
    assert len(sprintf("%*d", [-1000, 1])) == 1000
    for form in ("%1001d", "%.1001f", "%1.1001f"):
        with pytest.raises(FormatError, match="over 1000 is refused"):
            sprintf(form, [1.0])
    assert sprintf("%*d", [1001, 1]) == "%!(BADWIDTH)1"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (-999, "-999ns"),
        (1_000, "1µs"),
        (1_500, "1.5µs"),
        (999_999, "999.999µs"),
        (1_000_000, "1ms"),
        (2_500_000, "2.5ms"),
        (1_000_000_000, "1s"),
        (-3_661_500_000_000, "-1h1m1.5s"),
    ],
)
def test_a_span_is_written_as_go_writes_it(ns: int, text: str) -> None:
    assert str(Duration(ns)) == text


def test_a_span_ends_where_64_bits_of_nanoseconds_end() -> None:
    assert duration_of(9.2e9).ns == 9_200_000_000_000_000_000
    for seconds in (2**63 / 1e9, -(2**63) / 1e9, float("nan"), float("inf")):
        with pytest.raises(TimeError, match="overflows int64"):
            duration_of(seconds)
    assert (expand("{{ if toDuration 0 }}y{{ else }}n{{ end }}"), expand("{{ if toDuration 0.5 }}y{{ end }}")) == (
        "n",
        "y",
    )


def test_what_only_fails_when_it_is_expanded_can_be_loaded_as_in_prometheus() -> None:
    for text in ("{{ nil }}", "{{ 3 4 }}", "{{ $x = 3 }}", "{{ $x := $x }}", '{{ template "none" }}'):
        with pytest.raises(TemplateError, match="error executing template"):
            Template.parse(text).expand(LABELS, 1.0, Context(query, 0, "", "__alert_A"))
    assert expand("{{ 1 | }}") == "1"


def test_functions_that_are_newer_than_our_promtool() -> None:
    assert expand("{{ toDuration 90.5 }} {{ (toDuration 90.5).Seconds }}") == "1m30.5s 90.5"
    assert expand("{{ (toTime now).Format `2006-01-02 15:04:05.0` }}") == "2023-11-14 22:13:20.5"
    assert expand('{{ urlQueryEscape "a b/c" }}') == "a+b%2Fc"


@pytest.mark.parametrize(
    "call",
    [
        '{{ match "(a+)+$" $labels.foo }}',
        '{{ match "(a|a)*b" $labels.foo }}',
        '{{ reReplaceAll "(.*)*x" "y" $labels.foo | len | eq 4096 }}',
        '{{ match "((a*)*)*c" $labels.foo }}',
    ],
)
def test_a_hostile_label_does_not_hold_the_loop(call: str) -> None:
    """With a matcher that tries one way after the other, each of these takes longer than the universe is old."""
    text = Template.parse(call).expand({"foo": "a" * 4095 + "!"}, 1.0, Context(query, 0))
    assert text in ("false", "true")


def test_a_time_beyond_all_calendars_is_an_error() -> None:
    far = "{{ $t := toTime 9e9 }}{{ range 99 }}{{ $t = $t.Add 9000000000000000000 }}{{ end }}"
    for end in ("{{ $t }}", "{{ $t.Year }}", '{{ printf "%s" $t }}', "{{ $t.AddDate 9999 0 0 }}"):
        with pytest.raises(TemplateError, match="out of range"):
            expand(far + end)


PIECES = [
    "{{",
    "}}",
    " ",
    "|",
    ".",
    "$x",
    "$value",
    "(",
    ")",
    '"',
    "`",
    "'",
    ":=",
    "=",
    ",",
    "end",
    "range",
    "nil",
    "0x",
]
PIECES += [
    "toTime",
    ".Format",
    ".Add",
    "printf",
    "%*d",
    "%[9]s",
    "index",
    "slice",
    "call",
    "é",
    "\n",
    "{{-",
    "-}}",
    "/*",
]
PIECES += [
    "{{end}}",
    "{{if 1}}",
    "{{else}}",
    "{{else if 2}}",
    "{{range 2}}",
    '{{define "z"}}',
    "break",
    "_",
    "+1",
    "3e2",
    "5.",
]


def broken(rng: random.Random) -> str:
    """A template with random harm done to it."""
    if rng.random() < 0.2:
        return "{{ " + " ".join(rng.choice(PIECES[2:]) for _ in range(rng.randrange(1, 6))) + " }}"
    text = rng.choice(ANSWERS)[0]
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(["", *PIECES]) + text[at + rng.randrange(5) :]
    return text


def test_whatever_a_template_says_it_expands_or_says_why_not() -> None:
    rng = random.Random(1)
    refused = 0
    for _ in range(5_000):
        try:
            assert isinstance(expand(broken(rng), rng.choice((1.0, float("nan"), float("inf"), -1e300))), str)
        except TemplateError:
            refused += 1
    assert 500 < refused < 5_000


def test_what_takes_too_many_steps_is_refused() -> None:
    context = Context(query, 0, "", "__alert_A")
    with pytest.raises(TemplateError, match="steps on a text of 4000 characters"):
        Template.parse('{{ match "(a?){99}=" $labels.foo }}').expand({"foo": "a" * 4000}, 1.0, context)
    with pytest.raises(TemplateError, match="longer than 4096 characters"):
        Template.parse('{{ match "x" $labels.foo }}').expand({"foo": "a" * 4097}, 1.0, context)
    with pytest.raises(TemplateError, match="expression too large"):
        Template.parse('{{ match "[a-z]{900}[a-z]{900}[a-z]{900}[a-z]{900}[a-z]{900}" "x" }}').expand({}, 1.0, context)
