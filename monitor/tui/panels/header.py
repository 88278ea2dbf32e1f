"""The first lines: who we look at, how it runs, what time it is there, and what is wrong with the picture itself."""

from __future__ import annotations

from collections import Counter

from rich.style import Style

from monitor.client.format import clock, count, cut, duration, used_of
from monitor.client.snapshot import Snapshot
from monitor.tui.palette import ALARM, BADGE, BRAND, DIM, HERE, KEY, NOTICE, PAST, PLAIN, STRONG
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Line, Row, View


def header(view: View, width: int) -> list[Line]:
    """One line; more where the notes do not fit or the connection is lost."""
    left, right, notes = Row().put("gpumon ", BRAND), Row(), Row()
    snapshot = view.snapshot
    if snapshot is not None:
        room = _right_width(view, snapshot)
        node = snapshot.node
        left.put(" " + (node.name or node.hostname or node.target), STRONG)
        if node.name and node.hostname and node.name != node.hostname:
            left.put(f" ({node.hostname})", DIM)
        if snapshot.node.fleet:
            left.put("  9", KEY).put(f" fleet: {snapshot.node.fleet}", DIM)
        for text in _facts(snapshot):
            if left.width + 3 + len(text) + room + 2 <= width:
                left.put("  ").put(text, DIM)
        for note in _notes(snapshot):
            if notes.width:
                notes.put("  ·  ", DIM)
            notes.put(note, NOTICE)
        if snapshot.node.simulated:
            right.put(simulated(snapshot), BADGE).put("  ")
        if view.probe and view.at_ms is None:
            right.put(view.probe, KEY).put("  ")
        if view.range_seconds is not None:
            right.put(f"last {duration(view.range_seconds)}", KEY).put("  ")
        if view.asking:
            right.put("reading …", DIM).put("  ")
        if view.paused:
            right.put("paused", BADGE).put("  ")
        if view.old:
            right.put(f"{duration(view.age_seconds)} old", BADGE).put("  ")
        if view.at_ms is not None:
            right.put(" PAST ", PAST).put(f" {_ago(view)}  ", BADGE)
        right.put(clock(snapshot.now_ms, date=width >= 100), PLAIN if view.at_ms is None else BADGE)
    right.put(" ")
    rows = [left]
    bar = _bar(view.bar, width) if view.bar else None
    if bar is not None:
        rows.append(bar)
    if view.news:
        room = max(10, width - len(" firing now    l: go there"))
        rows.append(Row().put(" firing now ", ALARM).put(f" {cut(view.news, room)}", STRONG).put("  l: go there", DIM))
    if view.refused:
        rows.append(Row().put(" not read ", BADGE).put(f" {cut(view.refused, max(10, width - 11))}", NOTICE))
    if view.note:
        rows.append(Row().put(f" {view.note}", NOTICE))
    if view.error and snapshot is not None:
        rows += _lost(view, width)
    elif notes.width:
        if left.width + 3 + notes.width + 3 + right.width <= width:
            left.put("   ").extend(notes)
        elif bar is not None and bar.width + notes.width + 2 <= width:
            bar.to(width - notes.width - 1).extend(notes)
        else:
            rows.append(notes)
    left.to(width - right.width).extend(right)
    if left.width > width:  # what time it is must be seen
        rows[0] = Row().put("gpumon ", BRAND)
        room = width - right.width - rows[0].width - 2
        if snapshot is not None and room >= 4:
            rows[0].put(" " + cut(snapshot.node.hostname or snapshot.node.target, room), STRONG)
        rows[0].to(max(7, width - right.width)).extend(right)
    return [row.line() for row in rows]


def _lost(view: View, width: int) -> list[Row]:
    """Why there is no connection, what to do, and when it is tried again: to the end, as it is what helps now."""
    badge = Row().put(" connection lost ", ALARM).put(" ")
    first, *more = wrapped("", view.error, max(20, width - badge.width), NOTICE, indent=0)
    rows = [badge.extend(first), *(Row().to(18).extend(one) for one in more)]
    for text in (view.message, view.cure):
        if text and rows[-1].width + 2 + len(text) <= width:
            rows[-1].put("  " + text, DIM)
        elif text:
            rows += wrapped("", text, width, DIM, indent=1)
    return rows


SCREENS = (
    ("1", "overview"),
    ("2", "GPUs"),
    ("3", "vLLM"),
    ("4", "alerts"),
    ("5", "processes"),
    ("6", "host"),
    ("7", "events"),
    ("8", "probes"),
    ("9", "fleet"),
)
"""The screens that have a key of their own."""


def _bar(screen: str, width: int) -> Row:
    """Every screen with its key; the one that is open stands out."""
    row = Row().put(" ")
    for key, name in SCREENS:
        here = name == screen
        row.put(key, KEY).put(f" {name}", HERE if here else DIM).put("  ")
    if screen not in dict(SCREENS).values():
        row.put("esc", KEY).put(f" {screen}", HERE)
    return row if row.width <= width else Row()


def header_action(text: str, style: Style) -> str:
    """What the application does where a part of the header is clicked; "" for nothing."""
    text = text.strip()
    if style in (PAST, ALARM) and text in ("PAST", "firing now"):
        return "live" if text == "PAST" else "screen('alerts')"
    if style == BADGE and text == "paused":
        return "pause"
    if style == KEY and text.startswith("probe"):
        return "screen('probes')"
    return "ranges" if style == KEY and text.startswith("last ") else ""


def _ago(view: View) -> str:
    if view.at_ms is None or view.now_ms is None:
        return ""
    return f"{duration(max(0, view.now_ms - view.at_ms) / 1000)} ago"


def simulated(snapshot: Snapshot) -> str:
    """``simulated ×10``: a clock that runs fast is said wherever its times are."""
    speed = snapshot.node.speed
    return "simulated" if speed == 1 else f"simulated ×{speed:g}"


def _right_width(view: View, snapshot: Snapshot) -> int:
    """What the right side takes, short of what passes quickly."""
    room = 22
    if snapshot.node.simulated:
        room += len(simulated(snapshot)) + 2
    if view.probe and view.at_ms is None:
        room += len(view.probe) + 2
    if view.range_seconds is not None:
        room += len(duration(view.range_seconds)) + 7
    if view.at_ms is not None:
        room += len(_ago(view)) + 9 + 11  # and that it is being read, or what is to the left would come and go
    return room


def _facts(snapshot: Snapshot) -> list[str]:
    facts = []
    models = Counter(gpu.model for gpu in snapshot.gpus if gpu.model)
    if models:
        facts.append(", ".join(f"{many} × {model.removeprefix('NVIDIA ')}" for model, many in models.items()))
    elif snapshot.gpus:
        facts.append(count(len(snapshot.gpus), "GPU"))
    if power := _power(snapshot):
        facts.append(power)
    if snapshot.node.driver:
        facts.append(f"driver {snapshot.node.driver}")
    host = snapshot.host
    if host is not None and host.boot_time_seconds is not None:
        facts.append(f"up {duration(snapshot.now_ms / 1000 - host.boot_time_seconds)}")
    if snapshot.node.cuda:
        facts.append(f"CUDA {snapshot.node.cuda}")
    return facts


def _power(snapshot: Snapshot) -> str:
    """What all GPUs take together, of what they may; of those that say it."""
    known = [one for one in snapshot.gpus if one.power is not None and not one.stale]
    if not known:
        return ""
    used = sum(one.power or 0 for one in known)
    limit = sum(one.power_limit or 0 for one in known)
    if limit < 2000:
        return used_of(used, limit or None, "W")
    return f"{used / 1000:.1f}/{limit / 1000:.1f} kW"


def _notes(snapshot: Snapshot) -> list[str]:
    node = snapshot.node
    return [*(["TLS: any certificate is taken (--insecure)"] if node.insecure else []), *_about(snapshot)]


def _about(snapshot: Snapshot) -> list[str]:
    node = snapshot.node
    if node.mode == "fleet":
        return []
    if node.mode == "prometheus":
        rules = "no rules that alert, " if node.rules is False else ""
        return [f"a Prometheus: {rules}{'' if snapshot.sources else 'no sources, '}no processes"]
    if node.mode == "demo":
        return ["demo: nothing here is real"]
    if node.mode == "private":
        return ["private: nobody is notified"]
    notes = []
    if not node.notifies:
        notes.append("no receivers: nobody is notified")
    elif not node.heartbeat:
        notes.append("no heartbeat: a dead node is silent")
    return notes
