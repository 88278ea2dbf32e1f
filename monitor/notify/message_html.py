"""A message as a mail's HTML: tables and inline styles alone, nothing from outside, for that is what mail programs show
alike. Every text is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from monitor.notify.message_text import headline, row
from monitor.notify.notice import Notice
from monitor.notify.wording import Told, clean, format_time

_FULL = 8
_LISTED = 60
_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_INK, _FAINT, _LINE, _PAPER = "#1f2328", "#59636e", "#d9dee3", "#f3f5f7"
_CODE = re.compile(r"`([^`\n]{1,200})`")
_LINK = re.compile(r"https?://[^\s<>\"'`]{1,500}")

COLOURS = {"failure": "#b3261e", "warning": "#b25e00", "info": "#2b5fa8", "success": "#1a7f37", "gone": "#59636e"}
"""By apprise's word for how bad it is, the worst first; ``gone`` for an end that is no recovery."""


def escape(text: str) -> str:
    """``text`` for HTML, inside of an attribute or outside. (The module ``html`` would load its table of names.)"""
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(plain, written)
    return text


def colour_of(one: Told) -> str:
    """The colour of an alert as ``#rrggbb``."""
    return COLOURS["gone" if one.status in ("DATA GONE", "ENDED") else one.tone]


def html_of(tolds: Sequence[Told], notice: Notice, title: str, preface: Sequence[str], remarks: Sequence[str]) -> str:
    """A whole document. Comments ``<!--graph 0-->`` stand where pictures go."""
    parts = [_note(line) for line in preface]
    graphs = "".join(f"<!--graph {number}-->" for number in range(len(notice.graphs)))
    if len(tolds) == 1:
        parts.append(_alert(tolds[0], alone=True, graphs=graphs))
    else:
        parts += [_alert(one) for one in tolds[:_FULL]]
        parts += [_rest(tolds[_FULL:]), graphs]
    parts += [_note(line) for line in remarks]
    loudest = min((one for one in tolds if one.fires), key=lambda one: list(COLOURS).index(one.tone), default=tolds[0])
    sent = f"gpumon on {clean(notice.node)}, {format_time(notice.now_ms)}"
    link = clean(notice.external_url)
    if _LINK.fullmatch(link):
        sent += f" · {link}"
    events = ", ".join(one.event_id for one in tolds[:_FULL]) + (" …" if len(tolds) > _FULL else "")
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title></head>",
            f'<body style="margin:0;padding:0;background:{_PAPER}">',
            f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:{_PAPER}">',
            '<tr><td align="center" style="padding:16px 8px">',
            '<table role="presentation" width="640" cellpadding="0" cellspacing="0" '
            f'style="width:100%;max-width:640px;background:#ffffff;border:1px solid {_LINE};border-collapse:separate">',
            f'<tr><td style="background:{colour_of(loudest)};padding:14px 20px;{_FONT};font-size:18px;'
            f'line-height:24px;font-weight:600;color:#ffffff">{escape(title)}</td></tr>',
            f'<tr><td style="padding:4px 20px 12px;{_FONT};font-size:15px;line-height:22px;color:{_INK}">',
            *parts,
            "</td></tr>",
            f'<tr><td style="padding:10px 20px 14px;border-top:1px solid {_LINE};{_FONT};font-size:12px;'
            f'line-height:18px;color:{_FAINT}">{_text(sent)}<br>Event: {escape(events)}</td></tr>',
            "</table></td></tr></table></body></html>",
        ]
    )


def _alert(one: Told, *, alone: bool = False, graphs: str = "") -> str:
    parts = []
    if not alone:
        parts.append(
            f'<div style="margin-top:14px;padding-left:10px;border-left:4px solid {colour_of(one)};font-weight:600">'
            f"{escape(headline(one))}</div>"
        )
    for number, text in enumerate(one.said):
        size = ";font-size:17px;line-height:24px;font-weight:600" if alone and number == 0 else ""
        parts.append(_paragraph(text, size))
    if not alone and one.is_known:
        line = " · ".join(f"{name} {value}" for name, value in one.facts)
        return "".join([*parts, f'<p style="margin:4px 0 0;font-size:14px;color:{_FAINT}">{escape(line)}</p>'])
    if one.action and one.fires:
        head = f'<span style="font-weight:600;color:{_INK}">What to do</span><br>'
        parts.append(
            '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="margin-top:10px"><tr>'
            f'<td style="padding:10px 14px;background:{_PAPER};border-left:4px solid {_LINE};{_FONT};font-size:15px;'
            f'line-height:22px;color:{_INK}">{head}{_text(one.action)}</td></tr></table>'
        )
    parts.append(graphs)
    facts = [(name, escape(value)) for name, value in one.facts]
    facts += [(escape(name), _text(text)) for name, text in one.others]
    parts.append(_table(facts))
    if one.labels:
        marks = " ".join(
            f'<span style="display:inline-block;background:{_PAPER};border:1px solid {_LINE};padding:0 6px;'
            f'margin:2px 2px 2px 0;{_MONO};font-size:12px;line-height:20px">{escape(name)}={escape(value)}</span>'
            for name, value in one.labels
            if name != "severity"
        )
        parts.append(f'<div style="margin-top:8px;word-break:break-word">{marks}</div>')
    return "".join(parts)


def _rest(tolds: Sequence[Told]) -> str:
    lines = [escape(row(one)) for one in tolds[:_LISTED]]
    if len(tolds) > _LISTED:
        lines.append(f"and {len(tolds) - _LISTED} more")
    return f'<p style="margin:14px 0 0">{"<br>".join(lines)}</p>' if lines else ""


def _table(facts: Sequence[tuple[str, str]]) -> str:
    cell = f"padding:2px 0;vertical-align:top;{_FONT};font-size:14px;line-height:20px"
    rows = "".join(
        f'<tr><td style="{cell};color:{_FAINT};padding-right:16px;white-space:nowrap">{name}</td>'
        f'<td style="{cell};color:{_INK};word-break:break-word">{value}</td></tr>'
        for name, value in facts
    )
    return f'<table role="presentation" cellpadding="0" cellspacing="0" style="margin-top:10px">{rows}</table>'


def _paragraph(text: str, style: str = "") -> str:
    return f'<p style="margin:10px 0 0{style}">{_text(text)}</p>'


def _note(text: str) -> str:
    return f'<p style="margin:10px 0 0;color:{_FAINT};font-style:italic">{escape(text)}</p>'


def _text(text: str) -> str:
    """Escaped, with line breaks, ``code`` in backticks and links of http and https."""
    parts = []
    for number, piece in enumerate(_CODE.split(text)):
        if number % 2:
            parts.append(f'<span style="{_MONO};font-size:13px;background:{_PAPER}">{escape(piece)}</span>')
            continue
        at = 0
        for found in _LINK.finditer(piece):
            url = found.group().rstrip(".,;:)")
            parts.append(escape(piece[at : found.start()]))
            parts.append(f'<a href="{escape(url)}" style="color:#2b5fa8">{escape(url)}</a>')
            at = found.start() + len(url)
        parts.append(escape(piece[at:]))
    return "".join(parts).replace("\n", "<br>")
