"""A message as plain text: what JSON, pushes and the text part of a mail carry."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.notify.wording import Told, cut

_BODY_LIMIT = 8_000
_BRIEF_LIMIT = 300
_FULL = 8
"""So many alerts are told in full, the others by a line each."""
_LISTED = 60
_ROW_LIMIT = 80


def body_of(tolds: Sequence[Told], preface: Sequence[str], remarks: Sequence[str]) -> str:
    """The whole text. Its last line is ``Event: `` and the ids of all events, however long the rest is."""
    blocks = ["\n".join(preface)] if preface else []
    if len(tolds) == 1:
        blocks.append("\n".join(_lines(tolds[0])))
    else:
        blocks += ["\n".join([headline(one), *_lines(one, short=True)]) for one in tolds[:_FULL]]
        blocks += _rows(tolds[_FULL:], _BODY_LIMIT - sum(len(block) + 2 for block in blocks))
    text = cut("\n\n".join(blocks), _BODY_LIMIT)
    return "\n".join([text, *remarks, f"Event: {', '.join(one.event_id for one in tolds)}"])


def _rows(rest: Sequence[Told], room: int) -> list[str]:
    """A line each, as many as have room, and how many more there are."""
    lines: list[str] = []
    for one in rest[:_LISTED]:
        line = row(one)
        room -= len(line) + 1
        if room < len("and 100000 more"):
            break
        lines.append(line)
    if len(lines) < len(rest):
        lines.append(f"and {len(rest) - len(lines)} more")
    return ["\n".join(lines)] if lines else []


def row(one: Told) -> str:
    """One of so many that each has a line alone: which it is, since the alerts of a group may all have one name."""
    labels = ", ".join(f"{name}={value}" for name, value in one.labels if name not in ("severity", "instance"))
    what = " ".join(next(iter(one.said), labels).split())
    return f"{headline(one)}: {cut(what, _ROW_LIMIT)}" if what else headline(one)


def brief_of(tolds: Sequence[Told]) -> str:
    """What the first alert is and what to do, in one line of at most 300 characters, for SMS and the like."""
    first = tolds[0]
    text = " ".join(next(iter(first.said), first.what).split())
    if first.fires and first.action:
        text += f" Action: {' '.join(first.action.split())}"
    return cut(text, _BRIEF_LIMIT)


def headline(one: Told) -> str:
    """``FIRING critical: KvCacheFull (server node7:8000)``; one that the receiver knows of is ``STILL FIRING``."""
    still = "STILL " if one.fires and not one.new else ""
    return f"{still}{one.status} {one.what}" + (f" ({one.where})" if one.where else "")


def _lines(one: Told, *, short: bool = False) -> list[str]:
    lines = list(one.said)
    if short and one.is_known:
        return [*lines, "; ".join(f"{name}: {value}" for name, value in one.facts)]
    if one.action and one.fires:
        lines.append(f"Action: {one.action}")
    if lines and not short:
        lines.append("")
    lines += [f"{name}: {value}" for name, value in one.facts]
    if one.labels and short:
        lines.append("Labels: " + ", ".join(f"{name}={value}" for name, value in one.labels))
    elif one.labels:
        lines += ["Labels:", *(f"  {name}: {value}" for name, value in one.labels)]
    lines += [f"{name}: {text}" for name, text in one.others]
    return lines
