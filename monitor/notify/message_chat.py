"""A message for chats: CommonMark, and Slack's attachments.

Nobody is called by what a label holds: ``@channel``, ``@everyone`` and ids in angle brackets lose their power.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from monitor.notify.message_html import colour_of
from monitor.notify.message_text import headline
from monitor.notify.notice import Notice
from monitor.notify.wording import NOT_WELL, Told, clean, cut

_FULL = 5
_LISTED = 20
_LABELS_SHOWN = 12
_LABEL_LIMIT = 80
_MARKDOWN_LIMIT = 6_000

_CALLS = re.compile(r"@(?=channel|here|everyone|group|all\b|[&!#]?\d)|(?<=<)([@!#])", re.IGNORECASE)
_BREAK = "\u2060"
"""A word joiner: invisible, of no width, and no part of a name that a service looks for."""
_SPECIAL = re.compile(r"[\\*<>\[\]~|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^(?=[#+-])", re.MULTILINE)
_CODE = re.compile(r"(`[^`\n]{1,200}`)")


def markdown_of(tolds: Sequence[Told], notes: Sequence[str]) -> str:
    """CommonMark without the title. It stands for itself where the service shows line breaks as they are."""
    blocks = [_markdown_text(note) for note in notes]
    for one in tolds[:_FULL]:
        lines = [] if len(tolds) == 1 else [f"**{_markdown_text(headline(one))}**"]
        lines += [_markdown_text(text) for text in _said(one)]
        if one.action and one.fires:
            lines.append(f"**What to do:** {_markdown_text(one.action)}")
        lines.append(" · ".join(f"**{name}** {_markdown_text(value)}" for name, value in _facts(one)))
        if labels := _labels(one):
            lines.append(labels)
        blocks.append("\n".join(lines))
    blocks += [_markdown_text(line) for line in _rest(tolds)]
    return cut("\n\n".join(blocks), _MARKDOWN_LIMIT)


def slack_of(tolds: Sequence[Told], notice: Notice, title: str, notes: Sequence[str]) -> list[dict[str, Any]]:
    """Attachments for ``chat.postMessage`` and incoming webhooks, one per alert, five at most and one for the rest."""
    alone = len(tolds) == 1
    attachments: list[dict[str, Any]] = []
    for one in tolds[:_FULL]:
        lines = [_slack_text(text) for text in _said(one)]
        if one.action and one.fires:
            lines.append(f"*What to do:* {_slack_text(one.action)}")
        fields = [{"title": name, "value": _slack_text(value), "short": True} for name, value in _facts(one)]
        if labels := _labels(one):
            fields.append({"title": "Labels", "value": _escape(labels), "short": False})
        attachments.append(
            {
                "color": colour_of(one),
                "fallback": _escape(_calm(title if alone else headline(one))),
                "title": _escape(_calm(title if alone else headline(one))),
                "text": "\n".join(lines),
                "fields": fields,
                "mrkdwn_in": ["pretext", "text", "fields"],
            }
        )
    if rest := _rest(tolds):
        attachments.append({"color": "#59636e", "fallback": rest[-1], "text": "\n".join(map(_slack_text, rest))})
    pretext = [] if alone else [f"*{_slack_text(title)}*"]
    if pretext := pretext + [f"_{_slack_text(note)}_" for note in notes]:
        attachments[0]["pretext"] = "\n".join(pretext)
    events = ", ".join(one.event_id for one in tolds[:_FULL]) + (" …" if len(tolds) > _FULL else "")
    attachments[-1]["footer"] = _escape(f"gpumon on {clean(notice.node)} · event {events}")
    attachments[-1]["ts"] = notice.now_ms // 1000
    return attachments


def _said(one: Told) -> list[str]:
    lines = [one.reason] if one.reason else []
    if one.status == "DATA GONE":
        lines.append(NOT_WELL)
    return lines + [text for text in (one.summary, one.description) if text]


def _facts(one: Told) -> list[tuple[str, str]]:
    facts = [("Value" if one.fires else "Last value", one.value), ("Since", one.since)]
    if one.ended:
        facts += [("Ended", one.ended), ("Fired for", one.lasted)]
    return facts


def _labels(one: Told) -> str:
    # In code nothing is special but the backtick; what follows an @ or < is broken up all the same.
    shown = [cut(f"{name}={value}", _LABEL_LIMIT) for name, value in one.labels[:_LABELS_SHOWN]]
    more = f" and {len(one.labels) - _LABELS_SHOWN} more" if len(one.labels) > _LABELS_SHOWN else ""
    return " ".join(f"`{_calm(text).replace('`', chr(39))}`" for text in shown) + more


def _rest(tolds: Sequence[Told]) -> list[str]:
    rest = tolds[_FULL:]
    lines = [f"{headline(one)}, since {one.since}" for one in rest[:_LISTED]]
    return [*lines, f"and {len(rest) - _LISTED} more"] if len(rest) > _LISTED else lines


def _calm(text: str) -> str:
    return _CALLS.sub(lambda found: found.group() + _BREAK, text)


def _markdown_text(text: str) -> str:
    return "".join(
        piece if number % 2 else _SPECIAL.sub(lambda found: "\\" + found.group(), piece.replace("`", "'"))
        for number, piece in enumerate(_CODE.split(_calm(text)))
    )


def _slack_text(text: str) -> str:
    # Slack knows no backslash: a lone * or _ stays what it is, and bold by accident harms nobody.
    return _escape(_calm(text))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
