"""Every field of a rule file, as Prometheus 3 has them: what they are called, what they may be, what they mean.
``monitor.config_fields`` says how such a description is used; the reader is ``rule_file``."""

from __future__ import annotations

from monitor.field_kinds import Duration, Field, Inside, ListOf, MapOf, RuleLimit, Section, Text, book

_MOST_MS = 2**63 // 1_000_000
_LENGTH = Duration(0, _MOST_MS, bounded=False, may_be_null=True)
_NAME = Text("text", may_be_null=True)
_ANY_TEXT = Text("text", "texts")
_LABELS = MapOf(
    _ANY_TEXT,
    key_pattern=r"^(?!__name__$)[\s\S]",
    key_told="a label's name; __name__ is none",
    nullable_values=True,
)
_ANNOTATIONS = MapOf(_ANY_TEXT, key_pattern=r"[\s\S]", key_told="a name", nullable_values=True)

_SAYS_SOMETHING = {"type": ["string", "number", "boolean"], "minLength": 1, "errorMessage": "Expected a name."}
_NO_TIME = {"pattern": "^(0+[a-z]*)+$", "errorMessage": "A recording rule has no such time."}

FILE = Section(
    "rules",
    "A Prometheus rule file: what gpumon, Prometheus and vmalert evaluate, and what they alert on.",
    (Field("groups", ListOf(Inside("group")), "groups of rules; the rules of one are evaluated in order"),),
)

GROUP = Section(
    "group",
    "Rules that are evaluated together, in order: a rule sees what those above it recorded.",
    (
        Field("name", Text(filled=True), "what it is called, once in a file", required=True, examples=("gpu",)),
        Field(
            "interval",
            _LENGTH,
            "how often it is evaluated",
            without="`alerting.evaluation_interval` of gpumon.yaml; in Prometheus `global.evaluation_interval`",
            examples=("30s", "1m"),
        ),
        Field(
            "query_offset",
            _LENGTH,
            "how far back its expressions look, for samples that come late",
            default="0s",
            examples=("30s",),
        ),
        Field(
            "limit",
            RuleLimit(),
            "the most alerts or series that one of its rules may give; with more, the rule fails. 0 for no limit",
            default=0,
            examples=(100,),
        ),
        Field(
            "labels",
            _LABELS,
            "labels that each of its rules has, unless it says another value",
            without="none",
            examples=({"team": "infra"},),
        ),
        Field("rules", ListOf(Inside("rule")), "its rules"),
    ),
)

RULE = Section(
    "rule",
    "An alerting rule (`alert`), or a recording rule (`record`).",
    (
        Field("alert", _NAME, "the alert's name: its label `alertname`", examples=("GpuHot",)),
        Field(
            "record",
            _NAME,
            "the series that the result is recorded as, by convention `level:metric:operations`",
            examples=("instance:gpu_utilization:avg1m",),
        ),
        Field(
            "expr",
            Text(filled=True),
            "PromQL. Of an alerting rule, each series of the result is an alert; of a recording rule, what is recorded",
            required=True,
            examples=("DCGM_FI_DEV_GPU_TEMP > 85", "avg_over_time(DCGM_FI_DEV_GPU_UTIL[1m])"),
        ),
        Field(
            "for",
            _LENGTH,
            "how long the expression has to give the alert before it fires; until then it is pending",
            default="0s",
            examples=("1m", "5m"),
        ),
        Field(
            "keep_firing_for",
            _LENGTH,
            "how long it fires on after the expression gives it no more, so that what comes and goes is one alert",
            default="0s",
            examples=("5m",),
        ),
        Field(
            "labels",
            _LABELS,
            "labels of the alert or of the recorded series. Of an alert they are templates: `{{ $labels.gpu }}`, "
            "`{{ $value }}`",
            without="none",
            examples=({"severity": "warning"},),
        ),
        Field(
            "annotations",
            _ANNOTATIONS,
            "texts for people, templates: `summary`, `description`, `action`, `runbook_url`. Not of a recording rule",
            without="none",
            examples=({"summary": "GPU {{ $labels.gpu }} of {{ $labels.instance }} is hot"},),
        ),
    ),
    also={
        "if": {"required": ["record"], "properties": {"record": _SAYS_SOMETHING}},
        "then": {
            "properties": {
                "alert": {"enum": [None, ""], "errorMessage": "Give either alert or record."},
                "record": {"pattern": "^[^{}]*$", "errorMessage": "Expected a series' name, without braces."},
                "annotations": {"enum": [None, {}], "errorMessage": "A recording rule has no annotations."},
                "for": _NO_TIME,
                "keep_firing_for": _NO_TIME,
            }
        },
        "else": {
            "required": ["alert"],
            "errorMessage": "Give alert or record.",
            "properties": {"alert": _SAYS_SOMETHING},
        },
    },
)

RULE_FILE = book("alerts.yaml", FILE, GROUP, RULE)
