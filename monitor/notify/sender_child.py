"""The child that sends, ``python -m monitor.notify.sender_child``: the only process that loads apprise.

Requests come on standard input, answers go to standard output, each four bytes of length (big-endian) and JSON:

    {"id": 1, "url": …, "title": …, "body": …, "type": "failure", "timeout": 20.0, …}   (all: monitor.notify.sender)
    {"id": 1, "ok": false, "reason": "Failed to send JSON POST notification: …",
     "status": 429, "retry_after": 30.0, "permanent": false}

Each send has a thread of its own; the parent holds the deadlines. The end of the input is the word to end, at once.
Reasons have the parts of the URL masked.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from monitor.notify.masking import MAIL_SCHEMES, mask, scheme_of

if TYPE_CHECKING:
    from apprise import Apprise, AppriseResult

    from monitor.notify.service_forms import Form

_HEADER = struct.Struct(">I")
_FRAME_LIMIT = 1 << 20
_KEPT_SERVICES = 64
# Of the parent's deadline: less in sum, so that a silent server is told as one and the process goes on.
_CONNECT_SHARE = 0.2
_READ_SHARE = 0.7
_REASON_LIMIT = 500
_SAID_LIMIT = 200
_UNREADABLE = (400, 413, 422)
"""Statuses by which a service says that a message is too long, or not of its form."""
# Of pictures, after a message that arrived: another message may be waiting. Seconds.
_PICTURE_PATIENCE = (2.0, 4.0)


class _Refused(Exception):
    """The URL is not one that apprise takes."""


@dataclass(frozen=True)
class _Outcome:
    """What came of a send."""

    reason: str = ""
    """"" where it arrived."""
    status: int | None = None
    """Of HTTP."""
    retry_after: float | None = None
    permanent: bool = False
    later: Form | None = None
    """What may follow, once the answer is given."""


class _Services:
    """One apprise object per URL, kept, so that a service's own pause between messages holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Apprise, threading.Lock]] = OrderedDict()

    def get(self, url: str, timeout: float) -> tuple[Apprise, threading.Lock]:
        """The service and the lock that its sends take turns by. Raises ``_Refused``."""
        with self._lock:
            found = self._kept.get(url)
            if found is None:
                found = self._kept[url] = (_service(url, timeout), threading.Lock())
                if len(self._kept) > _KEPT_SERVICES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(url)
            return found


def _service(url: str, timeout: float) -> Apprise:
    import apprise

    # Why a connection broke is in the debug log alone, which apprise collects for us; it goes nowhere else.
    log = logging.getLogger("apprise")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    scheme = scheme_of(url)
    if not scheme:
        raise _Refused("this is no apprise URL: it has no scheme such as slack:// or mailto://")
    asset = apprise.AppriseAsset(
        app_id="gpumon",
        app_desc="gpumon",
        async_mode=False,
        interpret_emojis=False,
        pgp_autogen=False,
        pem_autogen=False,
        # No pictures from other people's servers in our messages.
        image_url_mask="",
        image_url_logo="",
    )
    service = apprise.Apprise(asset=asset)
    if not service.add(url) or not len(service):
        known = {name for plugin in service.details()["schemas"] for name in _schemes(plugin)}
        if scheme in known:
            raise _Refused(f"apprise does not accept this {scheme}:// URL: a part of it is missing or wrong")
        raise _Refused(f"apprise knows no service {scheme}://")
    guessed = apprise.NotifyBase.request_rate_per_sec
    for plugin in service:
        # 5.5 s between two messages of every service of which apprise knows no pause: mail, PagerDuty, Opsgenie, ntfy
        # and many more. `rate_limit` and Retry-After bound those; an alarm is not to wait behind the ones before it.
        if type(plugin).request_rate_per_sec == guessed:
            plugin.request_rate_per_sec = 0
        # apprise's own 4 seconds call a slow server's success a failure, and we would send it again.
        if "cto=" not in url:
            plugin.socket_connect_timeout = timeout * _CONNECT_SHARE
        if "rto=" not in url:
            plugin.socket_read_timeout = timeout * _READ_SHARE
        # Cutting leaves out all pictures but the first, and a mail has no such bound.
        if "overflow=" not in url and scheme not in MAIL_SCHEMES:
            plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    return service


def _schemes(plugin: dict[str, Any]) -> list[str]:
    return [*(plugin.get("protocols") or ()), *(plugin.get("secure_protocols") or ())]


def _send(services: _Services, request: dict[str, Any]) -> _Outcome:
    try:
        from monitor.notify import http_answers, service_forms
    except ImportError as error:
        return _Outcome(f"what notifications are sent with cannot be loaded: {error}")
    http_answers.install()
    url = str(request["url"])
    service, turn = services.get(url, float(request["timeout"]))
    patience = min(plugin.socket_read_timeout for plugin in service)
    with turn, http_answers.watched() as answers:
        begun = time.monotonic()
        form = service_forms.prepare(service[0], url, request)
        if service_forms.closes_itself(url, request):
            reason = service_forms.close(service[0], scheme_of(url), request)
        else:
            reason = _notify(service, form, request)
            # Better a poor message than none, where nothing of it has arrived.
            if reason and all(one.failed for one in answers):
                lesser = service_forms.without_pictures(form, url)
                reason = reason if lesser is None else _notify(service, lesser, request) and reason
            if reason and any(one.status in _UNREADABLE for one in answers):
                lesser = service_forms.plainest(service[0], url, request)
                reason = reason if lesser is None else _notify(service, lesser, request) and reason
        took = time.monotonic() - begun
    if not reason:
        return _Outcome(later=form if form.later else None)
    failed = [one for one in answers if one.failed]
    if took >= patience and all(one.status == 0 for one in failed):
        # apprise calls this a connection error, too.
        return _Outcome(f"no answer in {patience:g} s")
    # Masked before it is cut: a half of a secret would not be known for what it is.
    said = "; ".join(dict.fromkeys(mask(one.text, url)[:_SAID_LIMIT] for one in failed if one.text))
    return _Outcome(
        f"{reason} The server said: {said}" if said else reason,
        status=failed[-1].status or None if failed else None,
        retry_after=http_answers.retry_after_of(answers),
        permanent=http_answers.is_permanent(answers),
    )


def _notify(service: Apprise, form: Form, request: dict[str, Any]) -> str:
    import apprise

    from monitor.notify import service_forms

    service_forms.text_part.set(form.text)
    result = service.notify(
        body=form.body,
        title=form.title,
        notify_type=apprise.NotifyType(request["type"]),
        body_format=form.body_format,
        attach=list(form.attach) or None,
        log_level=logging.DEBUG,
    )
    return "" if result else _reason(result, str(request["url"]))


def _follow(services: _Services, request: dict[str, Any], form: Form) -> None:
    """Send pictures after a message that arrived. It may fail: the message has all that matters."""
    import apprise

    from monitor.notify import service_forms

    service, turn = services.get(str(request["url"]), float(request["timeout"]))
    with turn:
        plugin = service[0]
        service_forms.quiet(plugin)
        patience = plugin.socket_connect_timeout, plugin.socket_read_timeout
        plugin.socket_connect_timeout, plugin.socket_read_timeout = _PICTURE_PATIENCE
        for caption, picture in form.later:
            service.notify(
                body=caption,
                notify_type=apprise.NotifyType(request["type"]),
                body_format=apprise.NotifyFormat.TEXT,
                attach=picture,
            )
        plugin.socket_connect_timeout, plugin.socket_read_timeout = patience


def _reason(result: AppriseResult, url: str) -> str:
    entries = [entry for service in result for attempt in service.attempts for entry in attempt.logs]
    said = [" ".join(one.message.split()) for one in entries if one.level in ("WARNING", "ERROR", "CRITICAL")]
    # Why a connection broke, or a mail server refused, is in the debug log alone.
    why = [" ".join(one.message.split()) for one in entries if one.message.startswith("Socket Exception: ")]
    said_why = [text.removeprefix("Socket Exception: ") for text in why if "HTTPConnectionPool" not in text]
    causes = [mask(text, url)[:_SAID_LIMIT] for text in said_why]
    return "; ".join(dict.fromkeys([*said, *causes])) or f"apprise says {result.status.name.lower()} and no more"


def _answer(services: _Services, request: dict[str, Any], replies: BinaryIO, lock: threading.Lock) -> None:
    url = str(request.get("url", ""))
    try:
        outcome = _send(services, request)
    except _Refused as error:
        outcome = _Outcome(str(error), permanent=True)
    except Exception as error:  # a service's bug is a failed attempt, not the end of the others
        outcome = _Outcome(f"{type(error).__name__}: {error}")
    reply = {
        "id": request.get("id"),
        "ok": not outcome.reason,
        "reason": mask(outcome.reason, url)[:_REASON_LIMIT],
        "status": outcome.status,
        "retry_after": outcome.retry_after,
        "permanent": outcome.permanent,
    }
    text = json.dumps(reply).encode()
    try:
        with lock:
            replies.write(_HEADER.pack(len(text)) + text)
            replies.flush()
    except OSError:
        os._exit(0)  # nobody listens any more
    if outcome.later is not None:
        _follow(services, request, outcome.later)


def main() -> None:
    """Serve requests until the input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    lock = threading.Lock()
    services = _Services()
    requests = sys.stdin.buffer
    while len(header := requests.read(_HEADER.size)) == _HEADER.size:
        (length,) = _HEADER.unpack(header)
        if length > _FRAME_LIMIT:
            break
        text = requests.read(length)
        if len(text) < length:
            break
        threading.Thread(
            target=_answer, args=(services, json.loads(text), replies, lock), daemon=True, name="send"
        ).start()
    os._exit(0)  # a send that hangs must not keep the process


if __name__ == "__main__":
    main()
