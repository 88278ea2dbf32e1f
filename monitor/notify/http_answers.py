"""Sees what HTTP servers answer to apprise's plugins, which tell a success from a failure and no more. Of what they
answer it reads no more than anybody needs.

Only the sender's child loads this. The answers of one send are kept apart from those of others by a context variable.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from monitor.notify.refusals import PERMANENT, seconds_until
from monitor.plain import one_line

_TEXT_READ = 4_000
_MOST = 1 << 20
"""Bytes that are read of an answer's body, unpacked: an answer of no end must not take all memory."""
_CHUNK = 4096
"""Bytes as they come: compressed ones may unpack to a thousand times as many."""

_answers: contextvars.ContextVar[list[Answer] | None] = contextvars.ContextVar("answers", default=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got."""

    status: int
    """0 where nothing was answered."""
    retry_after: float | None = None
    """Seconds."""
    text: str = ""
    """What the server said is wrong, on one line, with the secrets that it repeats; "" where it took the request."""

    @property
    def failed(self) -> bool:
        """Whether the request was not taken."""
        return bool(self.text) or self.status == 0 or self.status >= 400


@contextmanager
def watched() -> Iterator[list[Answer]]:
    """The answers to all requests within, in order."""
    seen: list[Answer] = []
    token = _answers.set(seen)
    try:
        yield seen
    finally:
        _answers.reset(token)


def install() -> None:
    """Watch every session of ``requests`` in this process from now on. Twice is once."""
    if getattr(requests.Session.send, "watches", False):
        return
    plain = requests.Session.send

    def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seen = _answers.get()
        try:
            response = plain(self, request, **{**options, "stream": True})
            if not options.get("stream"):
                _read(response)
        except requests.RequestException:
            if seen is not None:
                seen.append(Answer(0))
            raise
        if seen is not None:
            seen.append(_answer(response))
        return response

    send.watches = True  # type: ignore[attr-defined]
    requests.Session.send = send  # type: ignore[method-assign]


def _read(response: requests.Response) -> None:
    """Read the beginning of the body, as ``content`` reads all of it. What breaks off on the way is what there is: the
    status has come, and says whether the message was taken."""
    body = b""
    try:
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) >= _MOST:
                break
    except (requests.RequestException, OSError):
        pass
    response.close()
    response._content = body[:_MOST]  # where requests itself puts it
    response._content_consumed = True


def retry_after_of(answers: Sequence[Answer]) -> float | None:
    """How many seconds to wait, where a server that refused said so."""
    return max((one.retry_after for one in answers if one.failed and one.retry_after is not None), default=None)


def is_permanent(answers: Sequence[Answer]) -> bool:
    """Whether all that failed would fail again."""
    failed = [one for one in answers if one.failed]
    return bool(failed) and all(one.status in PERMANENT for one in failed)


def _answer(response: requests.Response) -> Answer:
    after = response.headers.get("Retry-After")
    return Answer(
        status=response.status_code,
        retry_after=None if after is None else seconds_until(after),
        text=_complaint(response),
    )


def _complaint(response: requests.Response) -> str:
    try:
        content = response.content[:_TEXT_READ].decode("utf-8", "replace")
    except (requests.RequestException, RuntimeError):  # RuntimeError: a plugin took it as a stream
        return ""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        # Slack refuses with status 200 and {"ok": false, "error": "channel_not_found"}.
        if response.status_code < 400 and data.get("ok") is not False:
            return ""
        said = next((data[name] for name in ("error", "message", "description", "detail") if data.get(name)), "")
        content = said if isinstance(said, str) else json.dumps(said)
    elif response.status_code < 400:
        return ""
    if content.lstrip().startswith("<"):
        content = ""  # a proxy's page says nothing that the status does not
    text = one_line(content)
    return text or response.reason or f"status {response.status_code}"
