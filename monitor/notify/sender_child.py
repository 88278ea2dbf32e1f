"""The child that sends, ``python -m monitor.notify.sender_child``: the only module that loads apprise.

Requests come on standard input, answers go to standard output, each four bytes of length (big-endian) and JSON:

    {"id": 1, "url": …, "title": …, "body": …, "type": "failure", "timeout": 20.0}
    {"id": 1, "ok": false, "reason": "Failed to send JSON POST notification: …"}

Each send has a thread of its own; the parent holds the deadlines. The end of the input is the word to end, at once.
Reasons have the parts of the URL masked.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from monitor.notify.masking import mask, scheme_of

if TYPE_CHECKING:
    from apprise import Apprise, AppriseResult

_HEADER = struct.Struct(">I")
_FRAME_LIMIT = 1 << 20
_KEPT_SERVICES = 64
# Of the parent's deadline: less in sum, so that a silent server is told as one and the process goes on.
_CONNECT_SHARE = 0.2
_READ_SHARE = 0.7
_REASON_LIMIT = 500


class _Refused(Exception):
    """The URL is not one that apprise takes."""


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
    )
    service = apprise.Apprise(asset=asset)
    if not service.add(url) or not len(service):
        known = {name for plugin in service.details()["schemas"] for name in _schemes(plugin)}
        if scheme in known:
            raise _Refused(f"apprise does not accept this {scheme}:// URL: a part of it is missing or wrong")
        raise _Refused(f"apprise knows no service {scheme}://")
    for plugin in service:
        # apprise's own 4 seconds call a slow server's success a failure, and we would send it again.
        if "cto=" not in url:
            plugin.socket_connect_timeout = timeout * _CONNECT_SHARE
        if "rto=" not in url:
            plugin.socket_read_timeout = timeout * _READ_SHARE
    return service


def _schemes(plugin: dict[str, Any]) -> list[str]:
    return [*(plugin.get("protocols") or ()), *(plugin.get("secure_protocols") or ())]


def _send(services: _Services, request: dict[str, Any]) -> str:
    """Send, and give the reason where it failed, "" where it did not."""
    try:
        import apprise
    except ImportError as error:
        return f"apprise cannot be loaded: {error}"
    service, turn = services.get(request["url"], float(request["timeout"]))
    patience = min(plugin.socket_read_timeout for plugin in service)
    with turn:
        begun = time.monotonic()
        result = service.notify(
            body=request["body"],
            title=request["title"],
            notify_type=apprise.NotifyType(request["type"]),
            body_format=apprise.NotifyFormat.TEXT,
        )
        took = time.monotonic() - begun
    if result:
        return ""
    # apprise calls this a connection error, too.
    return f"no answer in {patience:g} s" if took >= patience else _reason(result)


def _reason(result: AppriseResult) -> str:
    said = [
        " ".join(entry.message.split())
        for service in result
        for attempt in service.attempts
        for entry in attempt.logs
        if entry.level in ("WARNING", "ERROR", "CRITICAL")
    ]
    return "; ".join(dict.fromkeys(said)) or f"apprise says {result.status.name.lower()} and no more"


def _answer(services: _Services, request: dict[str, Any], replies: BinaryIO, lock: threading.Lock) -> None:
    url = str(request.get("url", ""))
    try:
        reason = _send(services, request)
    except _Refused as error:
        reason = str(error)
    except Exception as error:  # a service's bug is a failed attempt, not the end of the others
        reason = f"{type(error).__name__}: {error}"
    reply = {"id": request.get("id"), "ok": not reason, "reason": mask(reason, url)[:_REASON_LIMIT]}
    text = json.dumps(reply).encode()
    try:
        with lock:
            replies.write(_HEADER.pack(len(text)) + text)
            replies.flush()
    except OSError:
        os._exit(0)  # nobody listens any more


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
