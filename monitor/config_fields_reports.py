"""The fields of ``gpumon.yaml`` that say which reports are sent. ``config_fields`` says how one is added."""

from __future__ import annotations

from monitor.field_kinds import YEAR_MS, Duration, Field, OneOrMore, Section, Text
from monitor.reporting.price import FORMS, PATTERN

REPORT = Section(
    "reports",
    "A report that the daemon sends by itself: what the time before was. What it holds, and what happens where it "
    "cannot be sent, is in report.md.",
    (
        Field(
            "name",
            Text(pattern=r"^[A-Za-z0-9_.-]{1,64}$", told="letters, digits, ., _ and -, at most 64 of them"),
            "stands in its title, and tells it from others; a report that gets another name is another",
            required=True,
            examples=("morning",),
        ),
        Field(
            "schedule",
            Text(
                pattern=r"^[ ]*([Dd]aily|[Ww]eekly +[A-Za-z]+) +([01][0-9]|2[0-3]):[0-5][0-9][ ]*$",
                told="daily 08:00, or weekly monday 08:00",
                bare=False,
            ),
            "when it is due: `daily 08:00`, or `weekly monday 08:00`",
            required=True,
            examples=("daily 08:00", "weekly mon 07:30"),
        ),
        Field(
            "location",
            Text(),
            "whose clock: `Europe/Berlin`, or `Local` for the machine's",
            default="UTC",
            examples=("Europe/Berlin", "Local"),
        ),
        Field(
            "since",
            Duration(60_000, YEAR_MS),
            "how far it looks back",
            without="a day; of a weekly one a week",
            examples=("12h",),
        ),
        Field(
            "receiver",
            Text(),
            "who gets it: one of `receivers` that has a URL of apprise",
            required=True,
            examples=("chat",),
        ),
        Field(
            "price",
            OneOrMore(Text(pattern=PATTERN, told=FORMS, bare=False)),
            "of electricity, `0.30/kWh` or `0.30 EUR/kWh`, of an hour of a GPU, `2.50/GPUh`, or both",
            without="none, and no cost is told",
            examples=("0.30 EUR/kWh", ["0.30/kWh", "2.50/GPUh"]),
        ),
    ),
)

SECTIONS = (REPORT,)
