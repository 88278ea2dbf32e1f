"""Which form of a message each of apprise's services gets, and how those that keep incidents are told of an end.

Only the sender's child loads this. What an apprise URL says itself (``?dedup=``, ``?action=``, ``?format=``, …) is left
as it is.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import apprise
import requests
from apprise.attachment.memory import AttachMemory

from monitor.notify.masking import KEYED_SCHEMES, MAIL_SCHEMES, scheme_of
from monitor.notify.message_chat import calm
from monitor.notify.notice import Graph
from monitor.records import replace

_INLINE_SCHEMES = frozenset(["mailto", "mailtos"])
"""Mails in which apprise can put a picture where the HTML has it; for others it is attached."""
_DATA_SCHEMES = frozenset(
    ["json", "jsons", "xml", "xmls", "form", "forms", "apprise", "apprises", "amqp", "amqps", "mqtt", "mqtts"]
)
_MARKED_SCHEMES = frozenset(["mmost", "mmosts", "zulip", "revolt", "guilded", "ryver"])
"""They show Markdown, which apprise does not know of them."""
_PICTURE_SCHEMES = frozenset(["discord", "tgram", "slack", "mmost", "mmosts", "signal", "signals"])
"""Chats that take a picture after the message. Pushes do not get one: it would be a second alarm."""
_FILE_SCHEMES = frozenset(["mailgun", "ses"])
"""Mails whose plugins take pictures from files only, and fail for ours, which are in memory."""

_SHORT = 700
"""A service with no title and a body no longer than this gets one line."""
_WIDTH = 600
"""Of a picture in a mail, in CSS pixels."""
_GRAPH_MARK = re.compile(r"<!--graph (\d+)-->")

Request = Mapping[str, Any]

text_part: contextvars.ContextVar[str] = contextvars.ContextVar("text_part", default="")
"""The text part of the mail that is sent. apprise may send it in a thread of its own, with this context."""


@dataclass(frozen=True)
class Form:
    """What apprise is asked to send."""

    title: str
    body: str
    body_format: apprise.NotifyFormat
    text: str = ""
    """The text part of a mail."""
    attach: Sequence[AttachMemory] = ()
    later: Sequence[tuple[str, AttachMemory]] = field(default=())
    """Captions and pictures for messages of their own, that may fail."""


def prepare(plugin: Any, url: str, request: Request) -> Form:
    """Choose the form for a service, and set the plugin up for this one message."""
    scheme = scheme_of(url)
    said = {name.lower() for name, _ in _query(url)}
    if scheme in KEYED_SCHEMES:
        _key(plugin, scheme, said, request)
    if scheme == "slack":
        _own_slack(plugin, said, request)
    form = _form(plugin, scheme, url, request)
    if scheme in MAIL_SCHEMES and hasattr(plugin, "headers"):
        _head(plugin, request)
    return form


def without_pictures(form: Form, url: str) -> Form | None:
    """The same with nothing attached, for a mail that a service refused whole; None where that is no way out."""
    if not form.attach or scheme_of(url) in _INLINE_SCHEMES:
        return None
    return replace(form, attach=())


def plainest(plugin: Any, url: str, request: Request) -> Form | None:
    """Title and one line, for a service that did not take the whole; None where programs read what is sent."""
    if scheme_of(url) in _DATA_SCHEMES | KEYED_SCHEMES:
        return None
    quiet(plugin)
    last = str(request["body"]).rsplit("\n", 1)[-1]
    body = f"{_fit(calm(str(request['brief'])), 400)}\n{last[:200]}"
    return Form(calm(str(request["title"]))[:140], body, apprise.NotifyFormat.TEXT)


def quiet(plugin: Any) -> None:
    """Let what follows be as apprise has it: Slack's plugin would post our attachments again."""
    if hasattr(plugin, "gpumon_attachments"):
        plugin.gpumon_attachments = []


def closes_itself(url: str, request: Request) -> bool:
    """Whether ``close`` sends this message, and apprise does not: its plugins close only what this process opened."""
    said = {name.lower() for name, _ in _query(url)}
    return scheme_of(url) in ("opsgenie", "jira") and bool(request["closes"]) and not said & {"action", ":success"}


def close(plugin: Any, scheme: str, request: Request) -> str:
    """Close an alert of Opsgenie's, or of Jira's in its stead, by its alias. The reason where that failed, else ""."""
    lookup = _lookup(scheme)
    url = f"{lookup[plugin.region_name]}/{quote(plugin.alias or request['key'], safe='')}/close"
    content = {"source": "gpumon", "note": str(request["body"])[:10_000]}
    if plugin.user:
        content["user"] = plugin.user
    try:
        answer = requests.post(
            url,
            json=content,
            params={"identifierType": "alias"},
            headers={"Authorization": f"GenieKey {plugin.apikey}", "User-Agent": "gpumon"},
            verify=plugin.verify_certificate,
            timeout=plugin.request_timeout,
            allow_redirects=False,
        )
    except requests.RequestException:
        return f"A connection error occurred closing the {scheme} alert"
    # 404: there is none with this alias, so nothing is open.
    if answer.status_code < 300 or answer.status_code == 404:
        return ""
    return f"Failed to close the {scheme} alert: error={answer.status_code}"


def _query(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return []


# What is said


def _form(plugin: Any, scheme: str, url: str, request: Request) -> Form:
    title, body = str(request["title"]), str(request["body"])
    wish = {name.lower(): value.lower() for name, value in _query(url)}.get("format", "")
    formats = plugin.notify_format if isinstance(plugin.notify_format, tuple) else (plugin.notify_format,)
    if scheme in MAIL_SCHEMES and wish in ("", "html"):
        return _mail(plugin, scheme, title, body, request)
    if scheme == "pagerduty":  # its summary is one line; the rest is in the details
        return Form("", title, apprise.NotifyFormat.TEXT)
    if plugin.title_maxlen <= 0 and plugin.body_maxlen <= _SHORT:
        return Form(title, str(request["brief"]), apprise.NotifyFormat.TEXT)
    if scheme in _DATA_SCHEMES and not wish:
        return Form(title, body, apprise.NotifyFormat.TEXT)
    title = calm(title)
    later: list[tuple[str, AttachMemory]] = []
    takes = plugin.attachment_support and getattr(plugin, "mode", "bot") not in _HOOKS
    if scheme in _PICTURE_SCHEMES and takes and request.get("graphs_in_chats", True):
        titles = [calm(f"{graph.span}: {graph.title}") for graph in _graphs(request)]
        later = [(titles[number], picture) for number, picture in _pictures(request)]
    # Telegram refuses a message whose marks do not match; apprise escapes a text for it.
    marked = apprise.NotifyFormat.MARKDOWN in formats and scheme != "tgram"
    if (wish == "markdown") if wish else marked or scheme in _MARKED_SCHEMES:
        text = _fit(str(request["markdown"]), plugin.body_maxlen)
        # What is to go as it is, is a text to apprise.
        kind = apprise.NotifyFormat.MARKDOWN if marked else apprise.NotifyFormat.TEXT
        return Form(title, text, kind, later=later)
    text = _fit(calm(body), plugin.body_maxlen)
    return Form(title, text, apprise.NotifyFormat.TEXT, later=later)


_HOOKS = ("hook", "gov-hook", "workflow", "trigger")
"""Slack's ways that take no file."""


def _mail(plugin: Any, scheme: str, title: str, body: str, request: Request) -> Form:
    inline = scheme in _INLINE_SCHEMES and hasattr(plugin, "inline")
    pictures = dict(_pictures(request)) if plugin.attachment_support and scheme not in _FILE_SCHEMES else {}
    if inline:
        plugin.inline = bool(pictures)
        _let_mails_have_our_text(plugin)

    def place(found: re.Match[str]) -> str:
        picture = pictures.get(int(found[1]))
        if picture is None or not inline:
            return ""
        graph = _graphs(request)[int(found[1])]
        said = _attribute(f"{graph.span}: {graph.title}")
        return (
            f'<img src="cid:{picture.name}" width="{_WIDTH}" alt="{said}" '
            f'style="display:block;width:100%;max-width:{_WIDTH}px;height:auto;margin:14px 0 0;border:0">'
        )

    html = _GRAPH_MARK.sub(place, str(request["html"]))
    return Form(title, html, apprise.NotifyFormat.HTML, text=f"{title}\n\n{body}\n", attach=list(pictures.values()))


def _let_mails_have_our_text(plugin: Any) -> None:
    """apprise makes a mail's text part from its HTML, tables and all; ours was written to be read."""
    names = getattr(plugin.prepare_emails, "__globals__", {})
    plain = names.get("convert_between")
    if plain is None or getattr(plain, "ours", False):
        return  # an apprise that does it in another way: its text part will do

    def convert(from_format: Any, to_format: Any, content: str) -> Any:
        return text_part.get() or plain(from_format, to_format, content)

    convert.ours = True  # type: ignore[attr-defined]
    names["convert_between"] = convert


def _fit(text: str, limit: int) -> str:
    """Cut in the middle: the last line has the ids. Some room is left for what apprise escapes."""
    limit = int(limit * 0.9)
    if len(text) <= limit:
        return text
    last = text.rsplit("\n", 1)[-1]
    tail = f"…\n{last}" if len(last) < limit // 3 else "…"
    return text[: limit - len(tail)] + tail


def _graphs(request: Request) -> list[Graph]:
    return [
        Graph(
            title=str(one["title"]),
            points=tuple((int(at), float(value)) for at, value in one["points"]),
            step_ms=int(one["step_ms"]),
            threshold=tuple((int(at), float(value)) for at, value in one["threshold"]),
            above=bool(one["above"]),
            span=str(one.get("span", "The last hour")),
        )
        for one in request["graphs"]
    ]


def _pictures(request: Request) -> list[tuple[int, AttachMemory]]:
    if not request["graphs"]:
        return []
    try:
        from monitor.notify.graph_picture import draw
    except ImportError:  # no Pillow, or a broken one: an alert goes without its picture
        return []
    found = []
    for number, graph in enumerate(_graphs(request)):
        try:
            content = draw(graph)
        except (ValueError, OSError):  # nothing to draw, or no font
            continue
        name = f"graph{number}.png"
        picture = AttachMemory(content=content, name=name, mimetype="image/png")  # type: ignore[no-untyped-call]
        found.append((number, picture))
    return found


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


# Slack


def _own_slack(plugin: Any, said: set[str], request: Request) -> None:
    """Let the plugin post our attachments in place of its own: it escapes with backslashes, which Slack shows."""
    if said & {"template", "blocks"}:
        return
    if not hasattr(plugin, "gpumon_attachments"):
        post: Callable[..., Any] = plugin._send

        def send(url: str, payload: Any, *rest: Any, **options: Any) -> Any:
            if isinstance(payload, dict) and "attachments" in payload and plugin.gpumon_attachments:
                payload = {**payload, "attachments": plugin.gpumon_attachments}
                payload.pop("mrkdwn", None)
            return post(url, payload, *rest, **options)

        plugin._send = send
    plugin.gpumon_attachments = list(request["slack"])


# Mail


def _head(plugin: Any, request: Request) -> None:
    """Headers that let mail programs show an alert's messages as one conversation, and that no holiday note answers."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", str(request["node"])) or "gpumon"
    plugin.headers = {
        **_plain(plugin).headers,
        "Auto-Submitted": "auto-generated",
        "References": f"<{request['key']}@{host}>",
        "X-Gpumon-Event": str(request["id_of_event"]),
    }


# Incidents


def _key(plugin: Any, scheme: str, said: set[str], request: Request) -> None:
    """Name the incident, and say whether it begins or is over."""
    key, closes = str(request["key"]), bool(request["closes"])
    plain = _plain(plugin)
    action = "resolve" if closes else "trigger"
    if scheme in ("opsgenie", "jira"):
        action = "new"
        if "alias" not in said:
            plugin.alias = key
        if "priority" not in said:  # apprise would say P3 of everything
            plugin.priority = {"critical": 1, "page": 1, "warning": 3}.get(str(request["severity"]), 4)
        plugin.details = {**plain.details, **_details(request)}
    elif scheme == "signl4":
        if not plain.external_id:
            plugin.external_id = key
    elif scheme == "pagertree":
        action = "resolve" if closes else "create"
        if not plain.thirdparty:
            plugin.thirdparty = key
    elif scheme in ("splunk", "victorops"):
        action = "recovery" if closes else "critical" if request["type"] == "failure" else "warning"
        if plain.entity_id == f"{plugin.app_id}/{plugin.routing_key}":  # apprise's own, for all that it sends
            plugin.entity_id = key
    else:
        if scheme.startswith("goalert") and closes:
            action = "close"
        if not plain.dedup:
            plugin.dedup = key
    if "action" not in said:
        plugin.action = action
    if scheme == "pagerduty":
        plugin.details = {**plain.details, **_details(request)}
        if plain.source == "Apprise":
            plugin.source = str(request["node"])
        if plain.component in ("Apprise", "Notification"):
            plugin.component = str(request["fields"]["commonLabels"].get("alertname") or "gpumon")


def _plain(plugin: Any) -> SimpleNamespace:
    """What the URL gave the plugin, before this module changed anything in it."""
    found = getattr(plugin, "gpumon_plain", None)
    if not isinstance(found, SimpleNamespace):
        names = ("details", "external_id", "thirdparty", "entity_id", "dedup", "source", "component", "headers")
        found = SimpleNamespace(**{name: getattr(plugin, name, None) for name in names})
        plugin.gpumon_plain = found
    return found


def _details(request: Request) -> dict[str, str]:
    """What an on-call service shows beside its summary."""
    fields = request["fields"]
    alerts = fields.get("alerts", [])
    details = {str(name): str(value) for name, value in fields.get("commonLabels", {}).items() if name != "job"}
    for name in ("summary", "description", "action", "runbook_url"):
        texts = dict.fromkeys(text for alert in alerts if (text := alert["annotations"].get(name)))
        if texts:
            details[name] = "\n".join(texts)[:1_000]
    details["node"] = str(request["node"])
    details["firing"] = str(sum(alert["status"] == "firing" for alert in alerts))
    details["event"] = str(request["id_of_event"])
    if fields.get("externalURL"):
        details["url"] = str(fields["externalURL"])
    return details


def _lookup(scheme: str) -> Mapping[str, str]:
    from apprise.plugins import jira, opsgenie

    lookup: Mapping[str, str] = jira.JIRA_API_LOOKUP if scheme == "jira" else opsgenie.OPSGENIE_API_LOOKUP
    return lookup
