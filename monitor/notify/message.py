"""What a notice says, in each form that a service may want. Pure functions of the notice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from monitor.notify.message_chat import markdown_of, slack_of
from monitor.notify.message_html import html_of
from monitor.notify.message_text import body_of, brief_of
from monitor.notify.notice import Graph, Notice
from monitor.notify.payload import payload_of
from monitor.notify.wording import NotifyType, Told, format_duration, title_of, told, worst


class Message(msgspec.Struct, frozen=True):
    """A notification, ready to send."""

    event_id: str
    """The same when the same is sent again."""
    title: str
    """One line."""
    body: str
    """Plain text; the last line is ``Event: `` and the ids of its events."""
    notify_type: NotifyType
    """apprise's word for how bad it is."""
    fields: Mapping[str, Any]
    """The same for a machine: the payload of Alertmanager's webhook, as values that ``json.dumps`` takes."""
    key: str = ""
    """The group's, the same from its first firing to its end, and on each node another: what services merge by."""
    resolved: bool = False
    """Nothing of the group fires any more."""
    closes: bool = False
    """An incident about it is over: resolved, and not for want of data, which is no recovery."""
    severity: str = ""
    """The worst that fires; of what ended, where nothing does."""
    brief: str = ""
    """One line for an SMS."""
    markdown: str = ""
    """CommonMark, short, for chats."""
    html: str = ""
    """For a mail; a comment ``<!--graph 0-->`` stands where the picture of ``graphs[0]`` goes."""
    slack: Sequence[Mapping[str, Any]] = msgspec.field(default=())
    """Attachments as Slack has them."""
    graphs: tuple[Graph, ...] = ()
    graphs_in_chats: bool = True
    """Whether chats get the pictures, too, each as a message of its own."""


def render(notice: Notice) -> Message:
    """Write a message. Raises ``ValueError`` for a notice of nothing."""
    if not notice.entries:
        raise ValueError("a notice has at least one entry")
    tolds = [told(entry, notice.now_ms) for entry in notice.entries]
    resolved = not any(one.fires for one in tolds)
    title = title_of(tolds, notice.entries, notice.node, notice.reminder)
    preface, remarks = _preface(notice), _remarks(notice)
    return Message(
        event_id=notice.ident,
        title=title,
        body=body_of(tolds, preface, remarks),
        notify_type=_notify_type(tolds),
        fields=payload_of(notice),
        key=_key(notice),
        resolved=resolved,
        closes=resolved and not any(one.status == "DATA GONE" for one in tolds),
        severity=_severity(tolds),
        brief=brief_of(tolds),
        markdown=markdown_of(tolds, [*preface, *remarks]),
        html=html_of(tolds, notice, title, preface, remarks),
        slack=slack_of(tolds, notice, title, [*preface, *remarks]),
        graphs=notice.graphs,
    )


def _preface(notice: Notice) -> list[str]:
    lines = []
    if notice.unreachable_since_ms is not None:
        gone = format_duration(notice.now_ms - notice.unreachable_since_ms)
        lines.append(f"gpumon could not reach this receiver for {gone}; this is the state now.")
    if notice.reminder:
        lines.append(f"Still firing, reminder {notice.reminder}.")
    return lines


def _remarks(notice: Notice) -> list[str]:
    if not notice.unrecorded:
        return []
    return ["unrecorded: gpumon could not write this event to its disk. It may come again."]


def _severity(tolds: Sequence[Told]) -> str:
    return worst(one.severity for one in tolds if one.fires) or worst(one.severity for one in tolds)


def _notify_type(tolds: Sequence[Told]) -> NotifyType:
    tones = {one.tone for one in tolds if one.fires} or {one.tone for one in tolds}
    for tone in ("failure", "warning", "info"):
        if tone in tones:
            return tone
    return "success"


def _key(notice: Notice) -> str:
    # Nodes have the same rules, and often one PagerDuty: a node's recovery must not close another node's incident.
    text = f"{notice.node}\0{notice.group_key}"
    return "gpumon-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
