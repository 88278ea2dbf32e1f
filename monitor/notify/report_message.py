"""A report as a message: each service gets the form that it would get of an alert. Pure."""

from __future__ import annotations

import hashlib

from monitor.notify.message import Message
from monitor.notify.message_chat import calm, markdown_text, slack_text
from monitor.notify.message_html import COLOURS, escape
from monitor.notify.notice import Graph
from monitor.notify.wording import TITLE_LIMIT, clean, cut
from monitor.reporting.letter import Letter

_HTML_LIMIT = 600_000
"""A longer one would not go to the process that sends."""


def ident_of(node: str, name: str, due_ms: int) -> str:
    """The same whenever the same report is sent, 24 hexadecimal digits."""
    return hashlib.sha256(f"report\0{node}\0{name}\0{due_ms}".encode("utf-8", "replace")).hexdigest()[:24]


def message_of(letter: Letter, ident: str, node: str, name: str) -> Message:
    """The message; ``node`` and ``name`` make what a mail program has as one conversation."""
    title = cut(clean(letter.title), TITLE_LIMIT)
    lines = [clean(line) for line in letter.lines]
    kind = "warning" if letter.severity == "warning" else "info"
    last = f"Report: {ident}"
    text = "\n".join(lines)
    html = letter.html
    if not html or len(html) > _HTML_LIMIT:
        html = f"<!DOCTYPE html><html><body><pre>{escape(text)}</pre></body></html>"
    told = cut(title, 200)
    return Message(
        event_id=ident,
        title=title,
        body=f"{text}\n{last}",
        notify_type="warning" if kind == "warning" else "info",
        fields={"node": node},
        key="gpumon-report-" + hashlib.sha256(f"{node}\0{name}".encode("utf-8", "replace")).hexdigest()[:32],
        severity=kind,
        brief=" ".join(lines[1:4]) or title,
        markdown="  \n".join([*map(markdown_text, lines), last]),
        html=html,
        slack=[
            {
                "color": COLOURS[kind],
                "fallback": slack_text(told),
                "title": slack_text(told),
                "text": "\n".join(map(slack_text, lines)),
                "footer": slack_text(calm(last)),
                "mrkdwn_in": ["text"],
            }
        ],
        graphs=tuple(Graph(clean(one.title), one.points, one.step_ms, span="The period") for one in letter.pictures),
        graphs_in_chats=False,
    )
