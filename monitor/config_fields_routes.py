"""The fields of ``gpumon.yaml`` in Alertmanager's words: ``route``, ``inhibit_rules`` and ``time_intervals``.
``config_fields`` says how a field is added."""

from __future__ import annotations

from monitor.field_kinds import Duration, Field, Inside, ListOf, OneOrMore, Section, Text, Truth
from monitor.records import replace

_YEAR_MS = 365 * 86_400_000
_MATCHER = Text(
    "matcher",
    "matchers",
    pattern=r"^[ \t{}]*$|=|!~",
    told="""a matcher, such as 'severity="critical"', or with !=, =~ or !~""",
    bare=False,
)
_LABEL = Text("label", "labels")
_FILLED_LABEL = Text("label", "labels", filled=True)
_NAMES = OneOrMore(Text("name", "names"), unique=True)

_FIRST = "the parent's; of the first, {}"
ROUTE = Section(
    "routes",
    "A route below the first: which alerts it takes, who is told of them, and when.",
    (
        Field(
            "receiver",
            _NAMES,
            "who is told. Alertmanager takes one name",
            without=_FIRST.format("*required*"),
            type_said="one or a list of names",
            examples=("chat", ["pager", "chat"]),
        ),
        Field(
            "group_by",
            OneOrMore(_FILLED_LABEL, unique=True),
            "alerts that have the same of these are one message; `['...']` for all labels, `[]` for one group of all",
            without=_FIRST.format("`[alertname]`"),
            examples=(["alertname", "instance"], ["..."], []),
        ),
        Field(
            "group_wait",
            Duration(0, _YEAR_MS, bounded=False),
            "how long a new group waits for more alerts",
            without=_FIRST.format("`5s`"),
            examples=("30s",),
        ),
        Field(
            "group_interval",
            Duration(1, _YEAR_MS, bounded=False),
            "how long a group waits with what is new in it",
            without=_FIRST.format("`1m`"),
            examples=("5m",),
        ),
        Field(
            "repeat_interval",
            Duration(1, _YEAR_MS, bounded=False),
            "after how long what still fires is told again",
            without=_FIRST.format("`4h`"),
            examples=("1d",),
        ),
        Field(
            "matchers",
            OneOrMore(_MATCHER),
            'which alerts it takes: `severity="critical"`, `gpu=~"0|1"`, `server!=""`. All have to hold; the '
            "first route has none",
            without="every alert",
            examples=(['severity="critical"'], ['alertname=~"Host.+"']),
            type_said="matchers",
        ),
        Field("continue", Truth(), "whether the routes after it are looked at, too", default=False),
        Field(
            "mute_time_intervals",
            _NAMES,
            "when it is silent; what still fires is told after. Not the parent's",
            without="none",
            examples=(["weekend"],),
        ),
        Field(
            "active_time_intervals",
            _NAMES,
            "when alone it is not silent. Not the parent's",
            without="always",
            examples=(["weekend"],),
        ),
        Field("routes", ListOf(Inside("routes")), "the routes below it, at most ten deep", without="none"),
    ),
)

NOT_OF_ROOT = {
    "matchers": "every alert comes to it",
    "continue": "there is no route after it",
    "mute_time_intervals": "give them to a route below it",
    "active_time_intervals": "give them to a route below it",
}
"""Fields that the first route has not, and why."""

_NOTHING: list[object] = [None, []]
_SAYS_NOTHING: dict[str, list[object]] = {**dict.fromkeys(NOT_OF_ROOT, _NOTHING), "continue": [False, "no", "off"]}
_FIRST_DEFAULTS: dict[str, object] = {
    "group_by": ["alertname"],
    "group_wait": "5s",
    "group_interval": "1m",
    "repeat_interval": "4h",
}
_NAMES_OF_RECEIVERS = OneOrMore(Text("name", "names"), least=1, unique=True)
ROOT_ROUTE = Section(
    "route",
    "The first route, to which every alert comes, and the routes below it. Alertmanager's tree: at each level an alert "
    "takes the first route that matches, and those after it while each says `continue`.",
    tuple(
        replace(one, kind=_NAMES_OF_RECEIVERS, without="", required=True)
        if one.name == "receiver"
        else replace(one, default=_FIRST_DEFAULTS[one.name], without="")
        if one.name in _FIRST_DEFAULTS
        else one
        for one in ROUTE.fields
        if one.name not in NOT_OF_ROOT
    ),
    not_here={
        name: {"description": f"Not of the first route: {why}.", "enum": _SAYS_NOTHING[name], "doNotSuggest": True}
        for name, why in NOT_OF_ROOT.items()
    },
)

INHIBIT_RULE = Section(
    "inhibit_rules",
    "While an alert fires that `source_matchers` mean, those that `target_matchers` mean are not told, where both have "
    "the same values of the labels in `equal`.",
    (
        Field("name", Text(), "for people", without="none", examples=("down",)),
        Field(
            "source_matchers",
            OneOrMore(_MATCHER, least=1),
            "the alerts that keep others quiet",
            required=True,
            examples=(['alertname="VllmServerDown"'],),
            type_said="matchers",
        ),
        Field(
            "target_matchers",
            OneOrMore(_MATCHER, least=1),
            "the alerts that are kept quiet",
            required=True,
            examples=(['server!=""'],),
            type_said="matchers",
        ),
        Field(
            "equal",
            OneOrMore(_LABEL),
            "what both have to have in common",
            without="none",
            examples=(["instance", "server"],),
        ),
    ),
)

TIME_INTERVAL = Section(
    "time_intervals",
    "Times that have a name, which routes give.",
    (
        Field("name", Text(filled=True), "what routes call it", required=True, examples=("weekend",)),
        Field(
            "time_intervals",
            ListOf(Inside("interval"), least=1),
            "when it is: any of these",
            required=True,
            examples=([{"weekdays": ["saturday", "sunday"]}],),
        ),
    ),
)


def _ranges(word: str) -> str:
    return f"^{word}(:{word})?$"


def _any_case(*words: str) -> str:
    # JavaScript has no flag for letters' case inside a pattern.
    spelled = ("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in words)
    return f"({'|'.join(spelled)})"


WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_DAY = "(-?0*([1-9]|[12][0-9]|3[01]))"
_MONTH = f"({_any_case(*MONTHS)}|0*([1-9]|1[0-2]))"

INTERVAL = Section(
    "interval",
    "A time. Every field that is there has to hold. A range has both its ends in it, and does not wrap around: write "
    "`[saturday, sunday]`, and a night as two `times`.",
    (
        Field("times", ListOf(Inside("times")), "times of day", without="all day"),
        Field(
            "weekdays",
            OneOrMore(Text(pattern=_ranges(_any_case(*WEEKDAYS)), told="monday, or monday:friday", bare=False)),
            "`monday`, or `monday:friday`; the week begins on Sunday",
            without="all",
            examples=(["saturday", "sunday"], "monday:friday"),
            type_said="one or a list",
        ),
        Field(
            "days_of_month",
            OneOrMore(
                Text(pattern=_ranges(_DAY), told="1 to 31, -1 to -31 from the month's end, or 1:5", whole=(-31, 31))
            ),
            "`1` to `31`, `-1` to `-31` from the month's end, or a range `1:7`, `-3:-1`. Cut at the month's end; a "
            "range that begins after it is none",
            without="all",
            examples=(["1:7", -1],),
            type_said="one or a list",
        ),
        Field(
            "months",
            OneOrMore(Text(pattern=_ranges(_MONTH), told="january, 1, or january:march", whole=(1, 12))),
            "`january` or `1`, or `january:march`",
            without="all",
            examples=(["january:march", 12],),
            type_said="one or a list",
        ),
        Field(
            "years",
            OneOrMore(Text(pattern=_ranges("[0-9]{1,4}"), told="2026, or 2026:2028", whole=(0, 9999))),
            "`2026`, or `2026:2028`",
            without="all",
            examples=([2026, "2027:2028"],),
            type_said="one or a list",
        ),
        Field(
            "location",
            Text(),
            "whose clock: `Europe/Berlin`, or `Local` for the machine's",
            default="UTC",
            examples=("Europe/Berlin", "Local"),
        ),
    ),
)

_CLOCK = Text(
    "`HH:MM`",
    pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
    told="HH:MM, 00:00 to 24:00",
    bare=False,
)
TIMES = Section(
    "times",
    "A time of day.",
    (
        Field("start_time", _CLOCK, "from this minute", required=True, examples=("08:00",)),
        Field(
            "end_time",
            _CLOCK,
            "until before this minute; `24:00` for the day's end",
            required=True,
            examples=("18:00",),
        ),
    ),
)

SECTIONS = (ROOT_ROUTE, ROUTE, INHIBIT_RULE, TIME_INTERVAL, INTERVAL, TIMES)
