"""A message for chats: CommonMark, and Slack's attachments.

Nobody is called by what a label holds: ``@channel``, ``@everyone`` and ids in angle brackets lose their power.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from monitor.notify.message_html import colour_of
from monitor.notify.message_text import headline, row
from monitor.notify.notice import Notice
from monitor.notify.wording import Told, clean, cut, format_time

_FULL = 5
_LISTED = 20
_LABELS_SHOWN = 12
_LABEL_LIMIT = 80
_MARKDOWN_LIMIT = 6_000

_CALLS = re.compile(r"@(?=[*_]*(?:channel|here|everyone|group|room|all\b)|[&!#]?\d)|(?<=<)[@!#]", re.IGNORECASE)
_BREAK = "\u2060"
"""A word joiner: invisible, of no width, and no part of a name that a service looks for."""
_SPECIAL = re.compile(r"[\\*<>\[\]~|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^(?=[#+-])", re.MULTILINE)
_URL = re.compile(r"https?://[^\s<>|]{1,500}")
_CODE = re.compile(r"(`[^`\n]{1,200}`)")


def markdown_of(tolds: Sequence[Told], notes: Sequence[str]) -> str:
    """CommonMark without the title. It stands for itself where the service shows line breaks as they are."""
    blocks = [markdown_text(note) for note in notes]
    for one in tolds[:_FULL]:
        lines = [] if len(tolds) == 1 else [f"**{markdown_text(headline(one))}**"]
        lines += [markdown_text(text) for text in one.said]
        full = len(tolds) == 1 or not one.is_known
        if full and one.action and one.fires:
            lines.append(f"**What to do:** {markdown_text(one.action)}")
        lines.append(" · ".join(f"**{name}** {markdown_text(value)}" for name, value in [*one.facts, *_links(one)]))
        if full and (labels := _labels(one)):
            lines.append(labels)
        blocks.append("\n".join(lines))
    blocks += [markdown_text(line) for line in _rest(tolds)]
    events = ", ".join(one.event_id for one in tolds[:_FULL]) + (" …" if len(tolds) > _FULL else "")
    blocks.append(f"Event: {events}")
    # Two spaces: CommonMark's line break, and nothing to see where a line's end is one anyway.
    paragraphs = ["  \n".join(block.splitlines()) for block in blocks]
    return "\n\n".join([cut("\n\n".join(paragraphs[:-1]), _MARKDOWN_LIMIT), paragraphs[-1]])


def slack_of(tolds: Sequence[Told], notice: Notice, title: str, notes: Sequence[str]) -> list[dict[str, Any]]:
    """Attachments for ``chat.postMessage`` and incoming webhooks, one per alert, five at most and one for the rest."""
    alone = len(tolds) == 1
    today = format_time(notice.now_ms)[: len("2026-01-31 ")]
    attachments: list[dict[str, Any]] = []
    for one in tolds[:_FULL]:
        lines = [slack_text(text) for text in one.said]
        facts = [(name, value.removeprefix(today)) for name, value in one.facts]
        fields: list[dict[str, Any]] = []
        if alone or not one.is_known:
            if one.action and one.fires:
                lines.append(f"*What to do:* {slack_text(one.action)}")
            fields = [{"title": name, "value": slack_text(value), "short": True} for name, value in facts]
            fields += [{"title": name, "value": _slack_link(url), "short": False} for name, url in _links(one)]
            if labels := _labels(one):
                fields.append({"title": "Labels", "value": _escape(labels), "short": False})
        else:
            lines.append(" · ".join(f"{name} {slack_text(value)}" for name, value in facts))
        attachments.append(
            {
                "color": colour_of(one),
                "fallback": _escape(calm(title if alone else headline(one))),
                "title": _escape(calm(title if alone else headline(one))),
                "text": "\n".join(lines),
                "fields": fields,
                "mrkdwn_in": ["pretext", "text", "fields"],
            }
        )
    if rest := _rest(tolds):
        attachments.append(
            {"color": "#59636e", "fallback": slack_text(rest[-1]), "text": "\n".join(map(slack_text, rest))}
        )
    pretext = [] if alone else [f"*{slack_text(title)}*"]
    if pretext := pretext + [f"_{slack_text(note)}_" for note in notes]:
        attachments[0]["pretext"] = "\n".join(pretext)
    events = ", ".join(one.event_id for one in tolds[:_FULL]) + (" …" if len(tolds) > _FULL else "")
    attachments[-1]["footer"] = _escape(calm(f"gpumon on {clean(notice.node)} · event {events}"))
    attachments[-1]["ts"] = notice.now_ms // 1000
    return attachments


def _links(one: Told) -> list[tuple[str, str]]:
    return [(name, text) for name, text in one.others if one.fires and _URL.fullmatch(text)]


def _labels(one: Told) -> str:
    # In code nothing is special but the backtick; what follows an @ or < is broken up all the same.
    labels = [cut(f"{name}={value}", _LABEL_LIMIT) for name, value in one.labels if name != "severity"]
    shown, rest = labels[:_LABELS_SHOWN], labels[_LABELS_SHOWN:]
    more = f" and {len(rest)} more" if rest else ""
    return " ".join(f"`{calm(text).replace('`', chr(39))}`" for text in shown) + more


def _rest(tolds: Sequence[Told]) -> list[str]:
    rest = tolds[_FULL:]
    lines = [row(one) for one in rest[:_LISTED]]
    return [*lines, f"and {len(rest) - _LISTED} more"] if len(rest) > _LISTED else lines


def calm(text: str) -> str:
    """``text`` with words that would call people, such as ``@channel`` or ``<@U0123>``, broken up invisibly."""
    return _CALLS.sub(lambda found: found.group() + _BREAK, text)


def markdown_text(text: str) -> str:
    """``text`` as CommonMark has it, but for ``code``."""
    return "".join(
        piece if number % 2 else _SPECIAL.sub(lambda found: "\\" + found.group(), piece.replace("`", "'"))
        for number, piece in enumerate(_CODE.split(calm(text)))
    )


def slack_text(text: str) -> str:
    """``text`` as Slack has it."""
    # Slack knows no backslash: a lone * or _ stays what it is, and bold by accident harms nobody.
    return _escape(calm(text))


def _slack_link(url: str) -> str:
    # Said outright: Slack does not see a link in every address without a dot, as a node's often is. ``_URL`` knows no
    # character that would end it, and one that begins so calls nobody.
    return f"<{_escape(url)}|{slack_text(cut(url.partition('://')[2], _LABEL_LIMIT))}>"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
