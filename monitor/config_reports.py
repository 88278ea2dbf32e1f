"""The section of ``gpumon.yaml`` that says which reports are sent: ``reports``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from monitor.config_fields_reports import REPORT
from monitor.config_parts import one_or_more
from monitor.config_routes import read_location
from monitor.config_values import Receiver, ScheduledReport
from monitor.reporting import price
from monitor.schedule import Schedule, parse
from monitor.yaml_reader import Node, suggestion

_NAME = REPORT.pattern("name")
_DAY_MS = 86_400_000


def read_reports(node: Node, receivers: Sequence[Receiver]) -> tuple[ScheduledReport, ...]:
    """``reports:``, for the receivers that there are."""
    found: dict[str, ScheduledReport] = {}
    for item in node.items():
        fields = item.fields(REPORT.names)
        for name in ("name", "schedule", "receiver"):
            if name not in fields:
                item.problem(f'a report needs a "{name}"')
        texts = {one: fields[one].text() or "" for one in ("name", "schedule", "receiver") if one in fields}
        if len(texts) < 3:
            continue
        name = texts["name"]
        if not _NAME.fullmatch(name):
            fields["name"].problem("a report's name has letters, digits, ., _ and -, at most 64 of them")
        if name in found:
            fields["name"].problem(f'a second report called "{name}"')
        _check_receiver(fields["receiver"], texts["receiver"], receivers)
        schedule = _schedule(fields, texts["schedule"])
        since = fields["since"].duration_ms(*REPORT.limits("since")) if "since" in fields else None
        usual = _DAY_MS if schedule.weekday is None else 7 * _DAY_MS
        prices = _prices(fields["price"]) if "price" in fields else ()
        found[name] = ScheduledReport(name, schedule, texts["receiver"], since or usual, prices)
    return tuple(found.values())


def _check_receiver(node: Node, name: str, receivers: Sequence[Receiver]) -> None:
    known = {one.name: one for one in receivers}
    if name not in known:
        node.problem(f'there is no receiver "{name}"{suggestion(name, list(known))}')
    elif not known[name].apprise:
        node.problem(f'the receiver "{name}" has webhooks alone, which take alerts: a report needs a URL of apprise')


def _schedule(fields: dict[str, Node], text: str) -> Schedule:
    location = read_location(fields["location"]) if "location" in fields else UTC
    name = (fields["location"].text() or "UTC") if "location" in fields else "UTC"
    try:
        return parse(text, location, name)
    except ValueError as error:
        fields["schedule"].problem(str(error))
        return Schedule(0)


def _prices(node: Node) -> tuple[str, ...]:
    found = []
    for item in one_or_more(node):
        text = item.text()
        if text is None:
            continue
        try:
            found.append(price.parse(text))
        except price.BadPrice as error:
            item.problem(str(error))
    if why := price.check(tuple(found)):
        node.problem(why)
    return tuple(str(one) for one in found)
